/* router/rows.h: the nodes that want one group.
 *
 * Most groups are wanted by one node: that row is inside; several are in an array sorted by node,
 * so that finding one of a thousand takes ten steps.
 *
 * Thread: the shard's. Memory: the array belongs to the rows; a zeroed struct is without rows. */
#ifndef PEAL_ROUTER_ROWS_H
#define PEAL_ROUTER_ROWS_H

#include <stdint.h>

#include "base/err.h"

struct peal_row {
    uint32_t node;  /* its number, see struct peal_table */
    uint32_t place; /* of the group in its slot of the node's roll */
    uint32_t round; /* the last sync of the node that named the group */
};

struct peal_rows {
    uint32_t count;
    uint32_t capacity; /* of `many`; 0: it is `one` */
    union {
        struct peal_row one;
        struct peal_row *many;
    };
};

void peal_rows_fini(struct peal_rows *rows);
/* The i-th, 0..count-1. Valid until rows are added or removed. */
static inline struct peal_row *peal_rows_at(struct peal_rows *rows, uint32_t i)
{
    return rows->capacity == 0 ? &rows->one : &rows->many[i];
}
/* NULL when there is none. Valid as above. */
struct peal_row *peal_rows_find(struct peal_rows *rows, uint32_t node);
/* Adds a row for a node that has none. Errors: PEAL_ENOMEM. */
enum peal_err peal_rows_add(struct peal_rows *rows, struct peal_row row);
/* Removes the row of a node that has one. */
void peal_rows_remove(struct peal_rows *rows, uint32_t node);

#endif
