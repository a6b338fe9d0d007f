/* storage/quota.h: how many operations are out, counted from submit until they are freed.
 *
 * The receiver of `done` keeps operations in a mailbox of its own until it gets to them. As
 * long as they count here, that mailbox cannot overflow.
 *
 * Thread: any. Memory: freed by the last of the store and the operations, because some may be
 * freed after the store has stopped. */
#ifndef PEAL_STORAGE_QUOTA_H
#define PEAL_STORAGE_QUOTA_H

#include <stdbool.h>
#include <stdint.h>

struct peal_quota;

/* NULL on ENOMEM. */
struct peal_quota *peal_quota_new(uint32_t most);
/* Returns false when `most` are out. */
bool peal_quota_take(struct peal_quota *quota);
/* How many are out. */
uint32_t peal_quota_taken(const struct peal_quota *quota);
/* Gives back one that was taken, or the store's own hold on it. NULL is fine. */
void peal_quota_give(struct peal_quota *quota);

#endif
