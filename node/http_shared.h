/* node/http_shared.h: what the HTTP sides of all workers share.
 *
 * Shape:  one for each node, with a hash for each API key: keys are not kept.
 * Thread: built in main, read-only afterwards; the two flags may change at any time.
 * Memory: the hashes are its own, the rest is borrowed and must outlive it.
 * Source: docs/CONFIGURATION.md, "api.keys". */
#ifndef PEAL_NODE_HTTP_SHARED_H
#define PEAL_NODE_HTTP_SHARED_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/config.h"
#include "base/err.h"
#include "base/span.h"

struct peal_http_shared {
    const struct peal_config *config;
    const _Atomic bool *ready;       /* /readyz */
    const _Atomic bool *draining;    /* then it is not, and answers close; NULL: never */
    struct peal_span demo_page;      /* HTML */
    struct peal_span token_secret;   /* HS256 secret that /dev/token signs with; absent: 404 */
    unsigned char (*key_hashes)[32]; /* SHA-256 of each API key */
    size_t key_count;
};
/* Hashes the configured keys (`sha256:<hex>` are hashes already). Errors: PEAL_ENOMEM,
 * PEAL_EBAD_FIELD. */
enum peal_err peal_http_shared_init(struct peal_http_shared *shared,
                                    const struct peal_config *config);
void peal_http_shared_fini(struct peal_http_shared *shared);
/* The node is on its way out. */
bool peal_http_leaving(const struct peal_http_shared *shared);

#endif
