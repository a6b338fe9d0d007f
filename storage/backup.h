/* storage/backup.h: copies of whole files: a backup while the store runs, and a store without
 * holes.
 *
 * A backup copies the log first and the inbox after it. What is removed from the log was in the
 * inbox before (docs/decisions/0018), so whatever was acknowledged before the copy began is in the
 * copy of the log, or in the inbox then and at any later time; and an inbox that is ahead of its
 * log is harmless, because of the versions. The other way round a range could be missing in both.
 * Only slots break that: one that leaves the store takes its groups out of the inbox. So the copy
 * is made again when the record of slots has changed meanwhile.
 *
 * The copy is a store that opens as it is; it then begins new epochs (storage/renew.h).
 *
 * Thread: one; the process has the store open only once. */
#ifndef PEAL_STORAGE_BACKUP_H
#define PEAL_STORAGE_BACKUP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Copies the store in dir to `to`, which is not there or is an empty folder, and has either nothing
 * or all of it: the copy is made in TO.part. Errors: PEAL_ENOT_FOUND, PEAL_EINUSE (`to` is not
 * empty, TO.part is there), PEAL_ELOCKED, PEAL_EAGAIN (slots move), PEAL_ESTORE_FULL,
 * PEAL_ECORRUPT, PEAL_EIO, PEAL_ENOMEM; why says it. */
enum peal_err peal_backup_make(const char *dir, const char *to, char *why, size_t why_size);

struct peal_compacted {
    uint64_t bytes_before; /* of both files */
    uint64_t bytes_after;
};

/* Replaces both files of a stopped store by copies without empty pages. Whatever it is cut off at,
 * the store is whole. Errors: as above, PEAL_ELOCKED: it runs, or is read. */
enum peal_err peal_backup_compact(const char *dir, struct peal_compacted *out, char *why,
                                  size_t why_size);

#endif
