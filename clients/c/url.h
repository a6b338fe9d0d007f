/* clients/c/url.h: addresses taken apart and put together. Pure.
 *
 * Strict on purpose: no user information, no fragment, no blanks, nothing beyond ASCII. What
 * passes can be put into a request line as it stands.
 *
 * Thread: any; no state. Source: RFC 3986; RFC 6455 section 3. */
#ifndef PEAL_CLIENTS_C_URL_H
#define PEAL_CLIENTS_C_URL_H

#include "clients/c/peal.h"

/* Is text ASCII without blanks and control characters? Only such a key or token may go into a
 * header line: a line break in it would make two lines. */
bool peal_url_printable(const char *text);

struct peal_url {
    bool tls;
    char host[256]; /* without the brackets of an IPv6 address */
    uint16_t port;
    char path[2048];     /* starts with `/`, with the query */
    char authority[280]; /* host[:port] as written, for the Host header */
};

/* Takes ws:// and wss:// apart. Errors: PEAL_EBAD_FIELD. */
enum peal_err peal_url_ws(const char *text, struct peal_url *out);

/* Appends base, with at most one slash between, and path. base must be http[s]://host[:port][/].
 * Errors: PEAL_EBAD_FIELD, PEAL_ENOMEM. */
enum peal_err peal_url_join(const char *base, const char *path, struct peal_buf *out);

/* Appends text as one path segment: everything but RFC 3986's unreserved characters becomes
 * %XX, so a slash in a user's name stays within its segment. `.` and `..` would be resolved
 * away, and are written %2E. */
void peal_url_segment(const char *text, struct peal_buf *out);

#endif
