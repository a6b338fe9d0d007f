/* base/log.h: one line per event on stderr, `time level event key=value ...`.
 *
 * Event names are stable and searchable (`conn.closed reason=slow`). No payloads, tokens,
 * keys or query strings. Values that a client chose go through peal_log_quote first.
 *
 * Thread: any; a line is written with one system call, so lines never mix. */
#ifndef PEAL_BASE_LOG_H
#define PEAL_BASE_LOG_H

#include <stddef.h>

#include "base/span.h"

enum peal_log_level { PEAL_LOG_ERROR, PEAL_LOG_WARN, PEAL_LOG_INFO, PEAL_LOG_DEBUG };

/* Lines above this level are dropped; PEAL_LOG_INFO at start. Before threads start only. */
void peal_log_set_level(enum peal_log_level level);

/* peal_log(PEAL_LOG_INFO, "conn.closed", "reason=%s bytes=%zu", reason, bytes). format may
 * be "" for an event without fields. Lines are cut at 1,024 bytes. */
__attribute__((format(printf, 3, 4))) void peal_log(enum peal_log_level level, const char *event,
                                                    const char *format, ...);

/* Writes text to out, with quotes where it has blanks, control and foreign bytes as \xNN, cut to
 * fit; always ends with a NUL. Returns out, for use as an argument of peal_log. */
const char *peal_log_quote(struct peal_span text, char *out, size_t out_size);

#endif
