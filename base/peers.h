/* base/peers.h: who may connect to the bus, by public key, and what for.
 *
 * Read from a file with one line per peer:
 *
 *     # comment
 *     7(Y.mg[...  node       edge-1
 *     QJ*}8]...   publisher  shop
 *
 * A key is 40 characters of Z85, which has # among its digits, though never as the first one of a
 * key.
 *
 * Shape:  at most PEAL_PEERS_MAX keys, sorted; each once.
 * Thread: read-only once it is parsed.
 * Memory: the caller ends it with peal_peers_fini. */
#ifndef PEAL_BASE_PEERS_H
#define PEAL_BASE_PEERS_H

#include "base/curve.h"

enum { PEAL_PEERS_MAX = 65536, PEAL_PEER_NAME_MAX = 64 };

enum peal_role {
    PEAL_ROLE_PUBLISHER, /* may hand in messages and nothing else */
    PEAL_ROLE_NODE       /* may do everything that is done on the bus */
};

struct peal_peers_entry {
    unsigned char key[PEAL_CURVE_KEY_BYTES];
    enum peal_role role;
    size_t line;
    char name[PEAL_PEER_NAME_MAX + 1]; /* "" when there is none */
};

struct peal_peers {
    struct peal_peers_entry *at;
    size_t count;
};

/* `publisher`, `node` */
const char *peal_role_word(enum peal_role role);

/* Reads the text of the file. Errors: PEAL_ECONFIG with `line: what is wrong` in why, PEAL_ENOMEM;
 * *out then needs no fini. */
enum peal_err peal_peers_parse(struct peal_span text, struct peal_peers *out, char *why,
                               size_t why_size);
/* Reads the file. Errors as above and PEAL_EIO, with a sentence in why that names the file. */
enum peal_err peal_peers_read(const char *path, struct peal_peers *out, char *why, size_t why_size);
/* A zeroed struct is fine. */
void peal_peers_fini(struct peal_peers *peers);
/* NULL when the key is not in the list. */
const struct peal_peers_entry *peal_peers_find(const struct peal_peers *peers,
                                               const unsigned char key[PEAL_CURVE_KEY_BYTES]);

#endif
