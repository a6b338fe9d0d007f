/* proto/json_write.h: JSON out.
 *
 * Appends one string at a time; the caller writes the punctuation. jansson checks it in a fuzz
 * target.
 *
 * Thread: any; no state. Memory: the caller's buffer, which remembers when there was none.
 * Errors: none but that. Source: RFC 8259 section 7. */
#ifndef PEAL_PROTO_JSON_WRITE_H
#define PEAL_PROTO_JSON_WRITE_H

#include "base/buf.h"
#include "base/span.h"

/* Appends text as a JSON string with its quotes. text must be UTF-8. Escapes ", \ and C0 as the
 * RFC demands, U+2028 and U+2029 because old JavaScript trips over them, nothing else. */
void peal_json_add_string(struct peal_buf *out, struct peal_span text);
/* Appends bytes as a JSON string in base64. */
void peal_json_add_base64(struct peal_buf *out, struct peal_span bytes);

#endif
