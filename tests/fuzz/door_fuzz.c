/* Calls at the acknowledged door, through to the items that they publish. */
#include "base/assert.h"
#include "proto/door.h"
#include "proto/publish.h"
#include "proto/value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct peal_door_call call;
    struct peal_publish_request request;
    struct peal_publish_limits limits = {.message_bytes = 65536, .targets = 1000};
    char why[200];
    if (peal_door_decode(peal_span_make(data, size), &call, why, sizeof why) != PEAL_OK) return 0;
    if (peal_publish_decode(call.messages, &limits, &request, why, sizeof why) == PEAL_OK) {
        PEAL_ASSERT(request.list);
        struct peal_frame receipt = {.type = PEAL_F_RECEIPT, .id = peal_span_of("id")};
        struct peal_buf out = {0};
        peal_door_encode(call.req, &receipt, 1, &out);
        PEAL_ASSERT(peal_wire_check(peal_buf_span(&out)) == PEAL_OK);
        peal_buf_fini(&out);
        peal_publish_fini(&request);
    }
    return 0;
}
