/* tests/unit/spans.h: spans for tests of what reads bytes from outside. */
#ifndef PEAL_TESTS_SPANS_H
#define PEAL_TESTS_SPANS_H

#include <stdlib.h>
#include <string.h>

#include "base/span.h"
#include "tests/unit/unit.h"

#define SPAN(literal) peal_span_make(literal, sizeof(literal) - 1)

/* What a test hands in lies in memory of exactly its size, so that the address sanitizer sees a
 * read beyond it. */
static inline struct peal_span exactly(struct peal_span text)
{
    char *copy = malloc(text.size);
    assert_non_null(copy);
    memcpy(copy, text.at, text.size);
    return peal_span_make(copy, text.size);
}

static inline void release_exactly(struct peal_span text)
{
    free((void *)(uintptr_t)text.at);
}

static inline void assert_span(struct peal_span span, const char *text)
{
    if (!peal_span_is(span, text)) fail_msg("'%.*s' is not '%s'", (int)span.size, span.at, text);
}

#endif
