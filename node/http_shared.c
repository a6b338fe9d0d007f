#include "node/http_shared.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

static enum peal_err hash_key(const char *key, unsigned char out[32])
{
    static const char prefix[] = "sha256:";
    size_t size = strlen(key);
    size_t skip = sizeof prefix - 1;
    if (strncmp(key, prefix, skip) != 0) {
        crypto_hash_sha256(out, (const unsigned char *)key, size);
        return PEAL_OK;
    }
    size_t written = 0;
    const char *end = NULL;
    if (sodium_hex2bin(out, 32, key + skip, size - skip, NULL, &written, &end) != 0 ||
        written != 32 || *end != '\0')
        return PEAL_EBAD_FIELD;
    return PEAL_OK;
}

enum peal_err peal_http_shared_init(struct peal_http_shared *shared,
                                    const struct peal_config *config)
{
    size_t count = config->api.keys.count;
    *shared = (struct peal_http_shared){.config = config};
    if (count == 0) return PEAL_OK;
    shared->key_hashes = calloc(count, sizeof *shared->key_hashes);
    if (shared->key_hashes == NULL) return PEAL_ENOMEM;
    for (size_t i = 0; i < count; i++) {
        if (hash_key(config->api.keys.at[i], shared->key_hashes[i]) == PEAL_OK) continue;
        peal_http_shared_fini(shared);
        return PEAL_EBAD_FIELD;
    }
    shared->key_count = count;
    return PEAL_OK;
}

void peal_http_shared_fini(struct peal_http_shared *shared)
{
    free(shared->key_hashes);
    *shared = (struct peal_http_shared){0};
}

bool peal_http_leaving(const struct peal_http_shared *shared)
{
    return shared->draining != NULL && atomic_load(shared->draining);
}
