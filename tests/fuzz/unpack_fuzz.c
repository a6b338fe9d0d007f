/* clients/c/unpack.c: whatever is rendered must be JSON. */
#include <jansson.h>

#include "base/assert.h"
#include "clients/c/unpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct peal_span bytes = peal_span_make(data, size);
    struct peal_buf text = {0};
    if (peal_unpack_json(bytes, &text) == PEAL_OK) {
        json_t *root = json_loadb(text.at, text.size,
                                  JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
        /* jansson takes a NUL in a string but not in a name. */
        if (root == NULL) PEAL_ASSERT(memmem(text.at, text.size, "\\u0000", 6) != NULL);
        json_decref(root);
    }
    peal_buf_fini(&text);

    struct peal_client_answer answer = {0};
    bool match;
    enum peal_err err = peal_unpack_answer(bytes, 7, 1, &match, &answer);
    if (err == PEAL_OK && match) {
        PEAL_ASSERT(answer.status >= 200);
        PEAL_ASSERT(answer.body.size > 0);
    } else {
        PEAL_ASSERT(answer.status == 0 || err != PEAL_OK);
    }
    peal_client_answer_fini(&answer);
    return 0;
}
