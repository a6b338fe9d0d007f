#include "base/err.h"

#include <stddef.h>

static const struct {
    const char *word;
    int http;
    const char *retry;
} errors[PEAL_ERR_COUNT] = {
#define X(name, word, http, retry) {word, http, retry},
    PEAL_ERR_TABLE(X)
#undef X
};

static size_t index_of(enum peal_err err)
{
    size_t i = (size_t)err;
    return i < PEAL_ERR_COUNT ? i : (size_t)PEAL_EINTERNAL;
}

const char *peal_err_word(enum peal_err err)
{
    return errors[index_of(err)].word;
}

int peal_err_http(enum peal_err err)
{
    return errors[index_of(err)].http;
}

const char *peal_err_retry(enum peal_err err)
{
    return errors[index_of(err)].retry;
}
