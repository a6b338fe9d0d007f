/* storage/verify.h: is everything in a store what it should be?
 *
 * Looks at every record of log and inbox: its checksum and form; in the log, that sequences and the
 * versions of each group go up by one, and that they fit what the inbox has of it; in the inbox,
 * that heads are where their names belong, that messages lie in the window of a head and are of its
 * group, and that there are as many as it counts; and of both together the same count once more,
 * with the log applied. Nothing is changed.
 *
 * Thread, memory: as storage/survey.h, and some 100 bytes for each group that the log names or that
 * shares a slot. */
#ifndef PEAL_STORAGE_VERIFY_H
#define PEAL_STORAGE_VERIFY_H

#include "storage/survey.h"

struct peal_verify {
    void *ctx;
    /* One problem, in a sentence that names the place. NULL is fine. */
    void (*problem)(void *ctx, const char *text);
    /* out */
    uint64_t problems;
    uint64_t records; /* of the log */
    uint64_t heads;
    uint64_t messages; /* of the inbox */
};

/* Errors: PEAL_ENOMEM, PEAL_EIO. PEAL_OK also when there are problems. */
enum peal_err peal_verify_run(struct peal_survey *survey, struct peal_verify *verify);

#endif
