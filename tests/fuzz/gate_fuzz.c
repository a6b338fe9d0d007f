/* Heads of requests through the gate. What passes must be framed in one way only, as a second
 * and much simpler look at the same bytes sees it. */
#include "node/gate.h"

#include <stdlib.h>
#include <strings.h>

#include "base/assert.h"
#include "base/limits.h"
#include "proto/group.h"

static char route_path[] = "/ws/{user}";
static struct peal_config_route routes[1] = {{.path = route_path}};
static const struct peal_config config = {
    .routes = routes, .route_count = 1, .limits = {.body = 1000}};
/* SHA-256 of "k" */
static unsigned char hashes[1][32] = {{0x82, 0x54, 0xc3, 0x29, 0xa9, 0x28, 0x50, 0xf6,
                                       0xd5, 0x39, 0xdd, 0x37, 0x6f, 0x48, 0x16, 0xee,
                                       0x27, 0x64, 0x51, 0x7d, 0xa5, 0xe0, 0x23, 0x55,
                                       0x14, 0xaf, 0x43, 0x31, 0x64, 0x48, 0x0d, 0x7a}};

static size_t count(struct peal_span text, const char *name)
{
    size_t size = strlen(name);
    size_t found = 0;
    for (size_t i = 0; i + size <= text.size; i++)
        found += strncasecmp(text.at + i, name, size) == 0;
    return found;
}

static void check(struct peal_span text, const struct peal_gate *gate)
{
    PEAL_ASSERT(gate->head_size <= text.size);
    struct peal_span head = peal_span_make(text.at, gate->head_size);
    PEAL_ASSERT(head.size >= 4 && memcmp(head.at + head.size - 4, "\r\n\r\n", 4) == 0);
    PEAL_ASSERT(memmem(head.at, head.size - 1, "\r\n\r\n", 4) == NULL);
    PEAL_ASSERT(count(head, "\ncontent-length:") <= 1);
    PEAL_ASSERT(count(head, "\ntransfer-encoding:") == 0);
    PEAL_ASSERT(count(head, "\nupgrade:") == 0);
    PEAL_ASSERT(count(head, "\n") == count(head, "\r\n"));
    PEAL_ASSERT(gate->body_size <= config.limits.body);
    if (gate->body_size > 0) PEAL_ASSERT(peal_span_starts(head, "POST "));
    if (gate->call == PEAL_GATE_INBOX) {
        PEAL_ASSERT(gate->limit >= 1);
        PEAL_ASSERT(gate->limit <= PEAL_PAGE_MESSAGES);
    }
    bool has_user = gate->call == PEAL_GATE_INBOX || gate->call == PEAL_GATE_ACK ||
                    gate->call == PEAL_GATE_READ;
    if (has_user)
        PEAL_ASSERT(peal_name_check(peal_buf_span(&gate->user)) == PEAL_OK);
    else
        PEAL_ASSERT(gate->user.size == 0);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    /* A copy, so that a read behind the end is found. */
    char *text = malloc(size);
    if (text == NULL && size > 0) return 0;
    if (size > 0) memcpy(text, data, size);
    for (int api = 0; api < 2; api++) {
        const struct peal_gate_rules rules = {.config = &config,
                                              .api = api != 0,
                                              .page = true,
                                              .token = true,
                                              .key_hashes = hashes,
                                              .key_count = 1};
        struct peal_gate gate;
        struct peal_gate_refusal refusal;
        struct peal_span span = peal_span_make(text, size);
        enum peal_err err = peal_gate_judge(&rules, span, &gate, &refusal);
        if (err == PEAL_OK) {
            check(span, &gate);
            peal_gate_fini(&gate);
        } else if (err != PEAL_EAGAIN) {
            PEAL_ASSERT(refusal.status >= 400 && refusal.status <= 599);
            PEAL_ASSERT(refusal.code != NULL);
            PEAL_ASSERT(refusal.why[0] != '\0');
        }
    }
    free(text);
    return 0;
}
