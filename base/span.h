/* base/span.h: a borrowed run of bytes. It owns nothing and is not ended by a NUL. */
#ifndef PEAL_BASE_SPAN_H
#define PEAL_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct peal_span {
    const char *at; /* NULL means absent, which is not the same as empty */
    size_t size;
};

static inline struct peal_span peal_span_of(const char *text)
{
    return (struct peal_span){text, text == NULL ? 0 : strlen(text)};
}

static inline struct peal_span peal_span_make(const void *at, size_t size)
{
    return (struct peal_span){at, size};
}

static inline bool peal_span_equal(struct peal_span a, struct peal_span b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.at, b.at, a.size) == 0);
}

static inline bool peal_span_is(struct peal_span a, const char *text)
{
    return peal_span_equal(a, peal_span_of(text));
}

static inline bool peal_span_starts(struct peal_span a, const char *prefix)
{
    size_t n = strlen(prefix);
    return a.size >= n && memcmp(a.at, prefix, n) == 0;
}

#endif
