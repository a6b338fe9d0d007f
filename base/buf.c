#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

void peal_buf_fini(struct peal_buf *buf)
{
    free(buf->at);
    *buf = (struct peal_buf){0};
}

char *peal_buf_reserve(struct peal_buf *buf, size_t more)
{
    if (buf->failed) return NULL;
    if (buf->at == NULL || more > buf->capacity - buf->size) {
        size_t capacity = buf->capacity < 64 ? 64 : buf->capacity;
        while (capacity - buf->size < more && capacity < SIZE_MAX / 2)
            capacity *= 2;
        char *at = capacity - buf->size < more ? NULL : realloc(buf->at, capacity);
        if (at == NULL) {
            buf->failed = true;
            return NULL;
        }
        buf->at = at;
        buf->capacity = capacity;
    }
    return buf->at + buf->size;
}

void peal_buf_add(struct peal_buf *buf, const void *at, size_t size)
{
    if (size == 0) return;
    char *to = peal_buf_reserve(buf, size);
    if (to == NULL) return;
    memcpy(to, at, size);
    buf->size += size;
}

void peal_buf_add_span(struct peal_buf *buf, struct peal_span span)
{
    peal_buf_add(buf, span.at, span.size);
}

void peal_buf_add_text(struct peal_buf *buf, const char *text)
{
    peal_buf_add(buf, text, strlen(text));
}

void peal_buf_add_char(struct peal_buf *buf, char c)
{
    peal_buf_add(buf, &c, 1);
}

void peal_buf_add_u64(struct peal_buf *buf, uint64_t number)
{
    char digits[20];
    size_t i = sizeof digits;
    do {
        digits[--i] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    peal_buf_add(buf, digits + i, sizeof digits - i);
}

void peal_buf_add_format(struct peal_buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    PEAL_ASSERT(size >= 0);
    /* vsnprintf ends its text with a NUL, hence one byte of room more than is kept. */
    char *to = peal_buf_reserve(buf, (size_t)size + 1);
    if (to != NULL) {
        vsnprintf(to, (size_t)size + 1, format, again);
        buf->size += (size_t)size;
    }
    va_end(again);
}

struct peal_bytes *peal_bytes_make(size_t size)
{
    if (size >= UINT32_MAX) return NULL;
    struct peal_bytes *bytes = malloc(sizeof *bytes + size);
    if (bytes == NULL) return NULL;
    atomic_init(&bytes->refs, 1);
    bytes->size = (uint32_t)size;
    return bytes;
}

struct peal_bytes *peal_bytes_new(const void *at, size_t size)
{
    struct peal_bytes *bytes = peal_bytes_make(size);
    if (bytes != NULL && size > 0) memcpy(bytes->at, at, size);
    return bytes;
}

struct peal_bytes *peal_bytes_ref(struct peal_bytes *bytes)
{
    uint32_t before = atomic_fetch_add_explicit(&bytes->refs, 1, memory_order_relaxed);
    PEAL_ASSERT(before > 0);
    return bytes;
}

void peal_bytes_unref(struct peal_bytes *bytes)
{
    if (bytes == NULL) return;
    uint32_t before = atomic_fetch_sub_explicit(&bytes->refs, 1, memory_order_acq_rel);
    PEAL_ASSERT(before > 0);
    if (before == 1) free(bytes);
}
