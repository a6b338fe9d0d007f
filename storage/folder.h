/* storage/folder.h: the folder of a store, which one process at a time has.
 *
 * DIR/lock is held with flock(2) and says the pid; DIR/log and DIR/inbox are the two databases. A
 * folder with DIR/data.mdb is of layout 1 and is refused.
 *
 * Who only reads beside that process holds a shared flock(2) on DIR itself, and who puts other
 * files in place of these an exclusive one: an open snapshot would make LMDB read them wrongly.
 *
 * Thread: any. Source: flock(2). */
#ifndef PEAL_STORAGE_FOLDER_H
#define PEAL_STORAGE_FOLDER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* Makes the folder if need be (0700) and takes the lock; *fd holds it until it is closed. Errors:
 * PEAL_ELOCKED (why names the pid), PEAL_ECORRUPT (layout 1), PEAL_EIO. */
enum peal_err peal_folder_take(const char *dir, int *fd, char *why, size_t why_size);

/* Holds DIR itself until *fd is closed. Errors: PEAL_ENOT_FOUND (no such folder), PEAL_ELOCKED
 * (alone: somebody reads; else: somebody replaces its files), PEAL_EIO. */
enum peal_err peal_folder_visit(const char *dir, bool alone, int *fd, char *why, size_t why_size);
/* True when it has nothing in it, or does not exist. */
bool peal_folder_empty(const char *dir);
/* Removes what a store has made in it, as far as it can, and nothing else. */
void peal_folder_clear(const char *dir);

#endif
