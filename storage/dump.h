/* storage/dump.h: a store as lines of text (storage/dump_line.h), and a store of such lines.
 *
 * A loaded store is a new one: it has a generation of its own and each group an epoch of its own,
 * so nothing that is in it was given as (epoch, offset) to anybody before. Offsets, marks and times
 * stay. What ids were seen lately is not in a dump: a retry across it is stored again.
 *
 * Thread: one. */
#ifndef PEAL_STORAGE_DUMP_H
#define PEAL_STORAGE_DUMP_H

#include <stdio.h>

#include "storage/survey.h"

struct peal_dump_result {
    uint64_t groups;
    uint64_t messages;
    uint64_t damaged; /* heads and messages that were left out */
    uint64_t line;    /* load: the one that is wrong, or the last */
};

/* Errors: PEAL_EIO (errno says why), PEAL_ENOMEM. */
enum peal_err peal_dump_write(struct peal_survey *survey, FILE *to, struct peal_dump_result *out);

/* Makes a store in dir, which is empty or not there; nothing is left in it after an error. Errors:
 * PEAL_EINUSE (it is not empty), PEAL_EBAD_JSON, PEAL_EBAD_FIELD, PEAL_EBAD_MESSAGE (not a whole
 * dump), PEAL_ESTORE_FULL, PEAL_EIO, PEAL_ENOMEM; why says it. */
enum peal_err peal_dump_load(const char *dir, FILE *from, struct peal_dump_result *out, char *why,
                             size_t why_size);

#endif
