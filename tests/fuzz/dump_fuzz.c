/* Lines of a dump, as somebody may have changed them. What is accepted must be written to a line
 * that is accepted again and is written to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "storage/dump_line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct peal_dump_room room = {0};
    struct peal_dump_line line;
    struct peal_buf once = {0};
    struct peal_buf twice = {0};
    char why[200];
    struct peal_span text = {(const char *)data, size};
    if (peal_dump_decode(text, &room, &line, why, sizeof why) == PEAL_OK) {
        peal_dump_encode(&line, &once);
        PEAL_ASSERT(!once.failed);
        PEAL_ASSERT(once.at[once.size - 1] == '\n');
        text = peal_span_make(once.at, once.size - 1);
        PEAL_ASSERT(peal_dump_decode(text, &room, &line, why, sizeof why) == PEAL_OK);
        peal_dump_encode(&line, &twice);
        PEAL_ASSERT(peal_span_equal(peal_buf_span(&once), peal_buf_span(&twice)));
    }
    peal_buf_fini(&once);
    peal_buf_fini(&twice);
    peal_dump_room_fini(&room);
    return 0;
}
