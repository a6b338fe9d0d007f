/* proto/base64.h: bytes as letters, and back.
 *
 * Thread: any; no state. Memory: the caller's buffer.
 * Source: RFC 4648 section 4, with padding; what is read has just the form that is written. */
#ifndef PEAL_PROTO_BASE64_H
#define PEAL_PROTO_BASE64_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

/* Appends the letters of bytes. Errors: out->failed. */
void peal_base64_encode(struct peal_span bytes, struct peal_buf *out);
/* Appends the bytes of text. Errors: PEAL_EBAD_FIELD (also for blanks and bad padding),
 * PEAL_ENOMEM; out then holds what it held before. */
enum peal_err peal_base64_decode(struct peal_span text, struct peal_buf *out);

#endif
