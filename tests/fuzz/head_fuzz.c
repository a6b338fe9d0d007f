/* Input: what a client sends first. Its beginnings must be waited for or judged like the whole;
 * what is accepted must keep the promises of the header; the parts are given to all that read
 * them next. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/assert.h"
#include "node/head.h"
#include "node/route.h"
#include "proto/utf8.h"

enum { PREFIXES_MAX = 64 };

static enum peal_err parse(const char *text, size_t size, struct peal_head *head)
{
    char why[80] = "";
    enum peal_err err = peal_head_parse(peal_span_make(text, size), head, why, sizeof why);
    PEAL_ASSERT(err == PEAL_OK || err == PEAL_EAGAIN || err == PEAL_ETOO_LARGE ||
                err == PEAL_EUPGRADE || err == PEAL_EBAD_MESSAGE);
    PEAL_ASSERT((why[0] == '\0') == (err == PEAL_OK || err == PEAL_EAGAIN));
    if (err == PEAL_OK) PEAL_ASSERT(head->size <= size);
    if (err != PEAL_OK) PEAL_ASSERT(!head->is_websocket);
    return err;
}

static void check_prefix(const char *text, size_t size, enum peal_err whole, size_t head_size)
{
    struct peal_head head;
    char *copy = malloc(size == 0 ? 1 : size); /* exactly, so that ASan sees the end */
    PEAL_ASSERT(copy != NULL);
    memcpy(copy, text, size);
    enum peal_err err = parse(copy, size, &head);
    if (whole == PEAL_OK)
        PEAL_ASSERT(err == (size < head_size ? PEAL_EAGAIN : PEAL_OK));
    else
        PEAL_ASSERT(err == PEAL_EAGAIN || err == whole);
    free(copy);
}

static void check_inside(struct peal_span outer, struct peal_span inner)
{
    if (inner.at == NULL) return;
    PEAL_ASSERT(inner.at >= outer.at);
    PEAL_ASSERT(inner.at + inner.size <= outer.at + outer.size);
    for (size_t i = 0; i < inner.size; i++)
        PEAL_ASSERT((unsigned char)inner.at[i] >= ' ' || inner.at[i] == '\t');
}

static void check_parts(const struct peal_head *head, struct peal_span text)
{
    const struct peal_span parts[] = {
        head->method,     head->target,        head->path,       head->query,         head->host,
        head->origin,     head->cookie,        head->upgrade,    head->authorization, head->ws_key,
        head->ws_version, head->forwarded_for, head->ws_protocol};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        check_inside(peal_span_make(text.at, head->size), parts[i]);
    PEAL_ASSERT(memcmp(text.at + head->size - 4, "\r\n\r\n", 4) == 0);
    PEAL_ASSERT(peal_span_starts(head->path, "/"));
    PEAL_ASSERT(head->is_websocket == (head->upgrade.at != NULL));
    if (!head->is_websocket) return;
    PEAL_ASSERT(peal_span_is(head->method, "GET"));
    PEAL_ASSERT(head->upgrade.size == 9 && strncasecmp(head->upgrade.at, "websocket", 9) == 0);
    PEAL_ASSERT(head->connection_upgrade);
    PEAL_ASSERT(head->host.at != NULL);
    PEAL_ASSERT(head->ws_key.size == 24);
    PEAL_ASSERT(peal_span_is(head->ws_version, "13"));
}

static void read_path(const struct peal_head *head)
{
    static struct peal_config_route routes[] = {
        {.path = "/v1/ws"}, {.path = "/ws/{user}/"}, {.path = "/{a}/{b}/{c}"}};
    const struct peal_config config = {.routes = routes, .route_count = 3};
    struct peal_buf path = {0};
    struct peal_route_match match;
    if (peal_path_decode(head->path, &path) == PEAL_OK) {
        PEAL_ASSERT(peal_utf8_valid(peal_buf_span(&path)));
        PEAL_ASSERT(memchr(path.at, '\0', path.size) == NULL);
        PEAL_ASSERT(path.size <= head->path.size);
        if (peal_route_find(&config, peal_buf_span(&path), &match) == PEAL_OK) {
            for (size_t i = 0; i < match.capture_count; i++) {
                struct peal_span value = match.captures[i].value;
                PEAL_ASSERT(value.size >= 1 && value.size <= PEAL_NAME_MAX);
                PEAL_ASSERT(memchr(value.at, '/', value.size) == NULL);
            }
        }
    } else {
        PEAL_ASSERT(path.size == 0);
    }
    peal_buf_fini(&path);
}

static void read_lists(const struct peal_head *head)
{
    struct peal_buf value = {0};
    if (peal_query_get(head->query, "token", &value) != PEAL_OK) PEAL_ASSERT(value.size == 0);
    PEAL_ASSERT(value.size <= head->query.size);
    peal_buf_fini(&value);
    size_t at = 0;
    for (struct peal_span item; peal_list_next(head->ws_protocol, &at, &item);) {
        check_inside(head->ws_protocol, item);
        PEAL_ASSERT(item.size > 0);
        PEAL_ASSERT(memchr(item.at, ',', item.size) == NULL);
    }
    PEAL_ASSERT(at == head->ws_protocol.size);
}

/* Without a list an origin is allowed only if it ends in the very host, but for ports. */
static void read_origin(const struct peal_head *head)
{
    static char *listed[] = {"https://a.example"};
    const struct peal_config_route open = {0};
    const struct peal_config_route closed = {.origins = {listed, 1}, .origins_set = true};
    struct peal_span name;
    uint16_t port;
    if (head->host.at != NULL) PEAL_ASSERT(peal_host_split(head->host, &name, &port) == PEAL_OK);
    if (head->origin.at == NULL) return;
    if (peal_origin_allowed(&open, false, head->origin, head->host)) {
        size_t scheme = strncasecmp(head->origin.at, "https://", 8) == 0 ? 8 : 7;
        PEAL_ASSERT(head->host.at != NULL);
        PEAL_ASSERT(head->origin.size >= scheme + name.size);
        PEAL_ASSERT(strncasecmp(head->origin.at + scheme, name.at, name.size) == 0);
    }
    if (peal_origin_allowed(&closed, true, head->origin, head->host)) {
        PEAL_ASSERT(head->origin.size == 17 || head->origin.size >= 21);
        PEAL_ASSERT(strncasecmp(head->origin.at, listed[0], 17) == 0);
    }
    (void)peal_origin_allowed(&open, true, head->origin, head->host);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct peal_head head;
    const char *text = (const char *)data;
    enum peal_err err = parse(text, size, &head);
    size_t step = 1 + size / PREFIXES_MAX;
    for (size_t prefix = 0; prefix < size; prefix += step)
        check_prefix(text, prefix, err, head.size);
    if (err != PEAL_OK) return 0;
    check_prefix(text, head.size - 1, err, head.size);
    check_prefix(text, head.size, err, head.size);
    check_parts(&head, peal_span_make(text, size));
    read_path(&head);
    read_lists(&head);
    read_origin(&head);
    return 0;
}
