/* base/buf.h: bytes. A growing one that is being written, and a finished one that is shared.
 *
 * struct peal_buf   is appended to; it remembers that memory ran out, so that a writer may
 *                   append many times and check `failed` once, at the end.
 * struct peal_bytes is immutable and counted. One rendering of a message is one of these,
 *                   and every connection that is sent it holds a reference.
 *
 * Thread: a peal_buf has one owner; a peal_bytes may be referenced and dropped anywhere. */
#ifndef PEAL_BASE_BUF_H
#define PEAL_BASE_BUF_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/span.h"

struct peal_buf {
    char *at;
    size_t size;     /* bytes written */
    size_t capacity; /* bytes allocated */
    bool failed;     /* memory ran out; nothing more is written */
};

/* A zeroed struct is an empty buffer. Frees the memory and makes it one again. */
void peal_buf_fini(struct peal_buf *buf);
/* Makes room for `more` bytes behind the end and returns where they go; NULL on ENOMEM. */
char *peal_buf_reserve(struct peal_buf *buf, size_t more);
void peal_buf_add(struct peal_buf *buf, const void *at, size_t size);
void peal_buf_add_span(struct peal_buf *buf, struct peal_span span);
void peal_buf_add_text(struct peal_buf *buf, const char *text);
void peal_buf_add_char(struct peal_buf *buf, char c);
void peal_buf_add_u64(struct peal_buf *buf, uint64_t number); /* decimal */
__attribute__((format(printf, 2, 3))) void peal_buf_add_format(struct peal_buf *buf,
                                                               const char *format, ...);
static inline struct peal_span peal_buf_span(const struct peal_buf *buf)
{
    return (struct peal_span){buf->at, buf->size};
}

struct peal_bytes {
    _Atomic uint32_t refs;
    uint32_t size;
    char at[];
};

/* Room for size bytes, which the caller writes before anybody else sees it. One reference; NULL
 * when memory is short or size >= 4 GiB. */
struct peal_bytes *peal_bytes_make(size_t size);
/* The same with a copy of the bytes in it. */
struct peal_bytes *peal_bytes_new(const void *at, size_t size);
struct peal_bytes *peal_bytes_ref(struct peal_bytes *bytes);
/* Drops one reference; the last one frees. NULL is fine. */
void peal_bytes_unref(struct peal_bytes *bytes);
static inline uint32_t peal_bytes_refs(struct peal_bytes *bytes)
{
    return atomic_load_explicit(&bytes->refs, memory_order_relaxed);
}
static inline struct peal_span peal_bytes_span(const struct peal_bytes *bytes)
{
    return (struct peal_span){bytes->at, bytes->size};
}

#endif
