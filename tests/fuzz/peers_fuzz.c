/* Any bytes as a list of peers, and as a file with a key pair: what is taken is found again by its
 * key and has the shape that logs and ZAP answers rely on; what is refused names its line. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/peers.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void check_why(const char *why)
{
    PEAL_ASSERT(why[0] >= '1' && why[0] <= '9');
    PEAL_ASSERT(strstr(why, ": ") != NULL);
    PEAL_ASSERT(strchr(why, '\n') == NULL);
}

static void check_peers(struct peal_span text)
{
    struct peal_peers peers;
    char why[160] = "";
    enum peal_err err = peal_peers_parse(text, &peers, why, sizeof why);
    if (err != PEAL_OK) {
        PEAL_ASSERT(peers.at == NULL);
        check_why(why);
        return;
    }
    for (size_t i = 0; i < peers.count; i++) {
        const struct peal_peers_entry *entry = &peers.at[i];
        PEAL_ASSERT(peal_peers_find(&peers, entry->key) == entry);
        PEAL_ASSERT(entry->role == PEAL_ROLE_NODE || entry->role == PEAL_ROLE_PUBLISHER);
        PEAL_ASSERT(strpbrk(entry->name, " \"'=:\\") == NULL);
        char text_of_key[PEAL_CURVE_TEXT + 1];
        peal_curve_encode(entry->key, text_of_key);
        PEAL_ASSERT(memmem(text.at, text.size, text_of_key, PEAL_CURVE_TEXT) != NULL);
    }
    peal_peers_fini(&peers);
}

static void check_pair(struct peal_span text)
{
    struct peal_curve_pair pair;
    char why[160] = "";
    if (peal_curve_parse(text, &pair, why, sizeof why) == PEAL_OK) {
        PEAL_ASSERT(strlen(pair.public_key) == PEAL_CURVE_TEXT);
        PEAL_ASSERT(strlen(pair.secret_key) == PEAL_CURVE_TEXT);
    } else {
        PEAL_ASSERT(pair.secret_key[0] == '\0');
        check_why(why);
    }
    peal_curve_wipe(&pair);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    /* A copy, so that a read behind the end is found. */
    char *text = malloc(size);
    if (text == NULL && size > 0) return 0;
    if (size > 0) memcpy(text, data, size);
    check_peers(peal_span_make(text, size));
    check_pair(peal_span_make(text, size));
    free(text);
    return 0;
}
