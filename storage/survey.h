/* storage/survey.h: a store as a whole, read from outside: by commands, stopped or running.
 *
 * A snapshot of the log, then one of the inbox; the log is applied on the heads of the inbox as the
 * settle thread does it (docs/decisions/0018). The inbox may be ahead of the log by then: what it
 * knows is known by its versions. So what one sees is a state in which everything is that was
 * acknowledged before the snapshots, of each group at one moment.
 *
 * A snapshot keeps the store from using pages again that were given back after it; its files may
 * grow meanwhile.
 *
 * Thread: one; the process has the store open only once. Memory: as storage/gather.h. */
#ifndef PEAL_STORAGE_SURVEY_H
#define PEAL_STORAGE_SURVEY_H

#include "storage/db.h"
#include "storage/gather.h"
#include "storage/keys.h"

struct peal_survey {
    int folder_fd;
    struct peal_db *log_db;
    struct peal_db *inbox_db;
    struct peal_txn log;
    struct peal_txn inbox;
    uint64_t layout;
    uint64_t generation;
    uint64_t moved;
    uint64_t newest; /* sequence in the log; `moved` when it is empty */
    struct peal_gather gather;
    _Atomic bool stopping; /* never */
};

/* Errors: PEAL_ENOT_FOUND (there is no store), PEAL_ELOCKED, PEAL_ECORRUPT (also: another layout,
 * files that do not belong together), PEAL_EIO, PEAL_ENOMEM; why says it. Needs close in any case.
 */
enum peal_err peal_survey_open(struct peal_survey *survey, const char *dir, char *why,
                               size_t why_size);
void peal_survey_close(struct peal_survey *survey);

/* One group, valid during the call. */
struct peal_survey_group {
    struct peal_span name;
    uint16_t slot;
    const struct peal_inbox *inbox;
    const struct peal_gathered *gathered; /* NULL: the log has nothing new of it */
};

/* Calls `group` for each, those of the inbox in the order of their keys and then those that only
 * the log has. A head that is damaged, and of which the log has nothing, comes without an inbox and
 * with the name that its key says. Ends with the first error of a call. Errors: also those of
 * peal_txn_get. */
enum peal_err peal_survey_groups(struct peal_survey *survey, void *ctx,
                                 enum peal_err (*group)(void *ctx,
                                                        const struct peal_survey_group *group));
/* Calls `message` for each that is kept, by offset; record NULL: it is damaged. Offsets of the
 * window that are left out have no record. Likewise. */
enum peal_err peal_survey_messages(struct peal_survey *survey,
                                   const struct peal_survey_group *group, void *ctx,
                                   enum peal_err (*message)(void *ctx, uint64_t offset,
                                                            const struct peal_record *record));

#endif
