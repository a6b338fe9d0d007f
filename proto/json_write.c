#include "proto/json_write.h"

#include <string.h>

#include "proto/base64.h"

/* Bytes at `at` that are written as an escape, 0 for none. */
static size_t needs_escape(struct peal_span text, size_t at)
{
    unsigned char c = (unsigned char)text.at[at];
    if (c < 0x20 || c == '"' || c == '\\') return 1;
    if (c != 0xe2 || text.size - at < 3) return 0;
    return memcmp(text.at + at, "\xe2\x80\xa8", 3) == 0 ||
                   memcmp(text.at + at, "\xe2\x80\xa9", 3) == 0
               ? 3
               : 0;
}

static void add_escape(struct peal_buf *out, const char *at, size_t size)
{
    static const char meant[] = "\"\\\b\f\n\r\t";
    static const char names[] = "\"\\bfnrt";
    if (size == 3) {
        peal_buf_add_text(out, (unsigned char)at[2] == 0xa8 ? "\\u2028" : "\\u2029");
        return;
    }
    const char *known = memchr(meant, *at, sizeof meant - 1);
    char escape[] = "\\u0000";
    size_t escape_size = sizeof escape - 1;
    if (known != NULL) {
        escape[1] = names[known - meant];
        escape_size = 2;
    } else {
        escape[4] = "01"[*at >> 4];
        escape[5] = "0123456789abcdef"[*at & 0x0f];
    }
    peal_buf_add(out, escape, escape_size);
}

void peal_json_add_string(struct peal_buf *out, struct peal_span text)
{
    peal_buf_add_char(out, '"');
    size_t plain = 0; /* where the bytes that are not yet written begin */
    for (size_t at = 0; at < text.size;) {
        size_t size = needs_escape(text, at);
        if (size == 0) {
            at++;
            continue;
        }
        peal_buf_add(out, text.at + plain, at - plain);
        add_escape(out, text.at + at, size);
        at += size;
        plain = at;
    }
    if (text.size > plain) peal_buf_add(out, text.at + plain, text.size - plain);
    peal_buf_add_char(out, '"');
}

void peal_json_add_base64(struct peal_buf *out, struct peal_span bytes)
{
    peal_buf_add_char(out, '"');
    peal_base64_encode(bytes, out);
    peal_buf_add_char(out, '"');
}
