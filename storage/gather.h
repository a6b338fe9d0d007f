/* storage/gather.h: what a range of the log makes of the groups in it.
 *
 * The entries are applied on copies of the heads that the inbox has; of the messages only the
 * places are kept. So what was settled within the range costs nothing more. A DROP takes back what
 * was gathered of its slot before it.
 *
 * Shape:  groups are sorted by slot and number, as messages are in the inbox.
 * Thread: the settle thread. Memory: some 300 bytes a group, 16 a message. */
#ifndef PEAL_STORAGE_GATHER_H
#define PEAL_STORAGE_GATHER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/map.h"
#include "base/span.h"
#include "storage/db.h"
#include "storage/entry.h"
#include "storage/inbox.h"

struct peal_gathered_place {
    uint64_t offset;
    uint64_t seq;
};

struct peal_gathered {
    struct peal_map_node node;
    uint64_t since; /* sequence of the first entry that counts */
    uint16_t slot;
    bool dirty;              /* the inbox has another head, or none */
    struct peal_inbox inbox; /* the head after the range */
    /* Messages that the inbox has: of this number, from old_first on, below old_next. No number:
     * none of use. */
    uint64_t old_gid;
    uint64_t old_first;
    uint64_t old_next;
    uint64_t purge_gid; /* all messages of this number go; 0: none */
    struct peal_gathered_place *places;
    size_t place_count;
    size_t place_room;
    uint64_t *holes; /* sorted; removed from the middle of the window */
    size_t hole_count;
    size_t hole_room;
    size_t name_size;
    char name[];
};

/* The first four are set, the others zeroed. */
struct peal_gather {
    struct peal_txn *log;
    struct peal_txn *inbox; /* of no use any more when the range was gathered */
    const _Atomic bool *stopping;
    uint64_t dropped_to; /* what DROP says up to this sequence is done in the inbox */
    uint64_t corrupt;    /* damaged records that were met */
    struct peal_gathered **groups;
    size_t group_count;
    uint64_t dropped[PEAL_SLOTS]; /* sequence of the last DROP in the range; 0: none */
    struct peal_map map;
    struct peal_entry_room room;
};

/* Errors: PEAL_ENOMEM, PEAL_EIO, PEAL_EAGAIN: stopped. Needs fini in any case. */
enum peal_err peal_gather_range(struct peal_gather *gather, uint64_t from, uint64_t to);
void peal_gather_fini(struct peal_gather *gather);

struct peal_span peal_gathered_name(const struct peal_gathered *group);
bool peal_gathered_is_hole(const struct peal_gathered *group, uint64_t offset);

#endif
