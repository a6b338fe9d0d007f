#include "storage/linger.h"

enum {
    NAPS = 4,        /* together as long as the last commit */
    NAP_US_MIN = 60, /* a shorter one takes much longer than it says */
    US_MAX = 2000,   /* of a batch */
    SKIP_MAX = 64,
};

uint64_t peal_linger_us(struct peal_linger *linger, size_t count)
{
    uint64_t nap_us = linger->commit_us / NAPS;
    if (count >= linger->expected || nap_us < NAP_US_MIN || linger->naps == NAPS) return 0;
    if (linger->naps == 0) {
        if (linger->skip > 0 && !linger->skipped) {
            linger->skip--;
            linger->skipped = true;
        }
        if (linger->skipped) return 0;
        linger->began = count;
    }
    linger->naps++;
    return nap_us;
}

void peal_linger_commit(struct peal_linger *linger, size_t count, size_t under_way,
                        uint64_t commit_us)
{
    if (linger->naps > 0) {
        bool worth = count - linger->began > linger->began / 4;
        linger->skip_next = worth ? 0 : 2 * linger->skip_next + 1;
        if (linger->skip_next > SKIP_MAX) linger->skip_next = SKIP_MAX;
        linger->skip = linger->skip_next;
    }
    linger->naps = 0;
    linger->skipped = false;
    linger->expected = under_way;
    linger->commit_us = commit_us < US_MAX ? commit_us : US_MAX;
}
