/* Input: any bytes, as they come through the PUSH door. Whatever an item that is OK says must be
 * fit for the envelope, and a refused one must say why. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/limits.h"
#include "proto/group.h"
#include "proto/json_check.h"
#include "proto/publish.h"
#include "proto/utf8.h"

static void check_label(struct peal_span label, size_t size_max)
{
    if (label.at == NULL) {
        PEAL_ASSERT(label.size == 0);
        return;
    }
    PEAL_ASSERT(label.size <= size_max);
    PEAL_ASSERT(peal_name_check(label) == PEAL_OK);
}

static void check_data(const struct peal_envelope *env, const struct peal_publish_limits *limits)
{
    PEAL_ASSERT(env->data.at != NULL);
    PEAL_ASSERT(env->data.size <= limits->message_bytes);
    PEAL_ASSERT(env->data_kind < PEAL_DATA_KIND_COUNT);
    if (env->data_kind == PEAL_DATA_TEXT) PEAL_ASSERT(peal_utf8_valid(env->data));
    if (env->data_kind == PEAL_DATA_JSON) {
        char why[100] = "";
        PEAL_ASSERT(peal_json_check(env->data, why, sizeof why) == PEAL_OK);
    }
}

static void check_item(const struct peal_publish_item *item,
                       const struct peal_publish_limits *limits)
{
    PEAL_ASSERT((item->err == PEAL_OK) == (item->why[0] == '\0'));
    if (item->err != PEAL_OK) {
        PEAL_ASSERT(item->field[0] != '\0' || item->err == PEAL_EBAD_MESSAGE);
        PEAL_ASSERT(strstr(item->why, item->field) != NULL);
        return;
    }
    const struct peal_envelope *env = &item->env;
    PEAL_ASSERT(item->field[0] == '\0');
    PEAL_ASSERT(peal_name_check(env->group) == PEAL_OK);
    PEAL_ASSERT(!peal_span_starts(env->group, "sys:"));
    PEAL_ASSERT(!peal_span_is(env->group, "user:"));
    check_label(env->id, PEAL_MESSAGE_ID_MAX);
    check_label(env->event, PEAL_EVENT_MAX);
    check_label(env->collapse, PEAL_COLLAPSE_MAX);
    PEAL_ASSERT(env->flags == (env->id.at == NULL ? 0 : PEAL_MSG_ID_GIVEN));
    PEAL_ASSERT(env->ttl_ms < UINT64_C(1) << 53);
    PEAL_ASSERT(env->from.at == NULL);
    PEAL_ASSERT(env->epoch == 0);
    PEAL_ASSERT(env->offset == 0);
    check_data(env, limits);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct peal_publish_limits limits = {.message_bytes = 256, .targets = 16};
    struct peal_publish_request request;
    char why[100];
    enum peal_err err =
        peal_publish_decode(peal_span_make(data, size), &limits, &request, why, sizeof why);
    PEAL_ASSERT((err == PEAL_OK) == (why[0] == '\0'));
    if (err != PEAL_OK) {
        PEAL_ASSERT(request.items == NULL);
        PEAL_ASSERT(request.arena == NULL);
        return 0;
    }
    PEAL_ASSERT(request.count <= limits.targets);
    PEAL_ASSERT(request.list || request.count == 1);
    for (size_t i = 0; i < request.count; i++)
        check_item(&request.items[i], &limits);
    peal_publish_fini(&request);
    return 0;
}
