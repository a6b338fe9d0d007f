/* node/repairs.h: the pages that members of this node want from one router.
 *
 * At most PEAL_REPAIRS_MAX are on their way to a router, whatever the number of workers and members
 * that fell behind together; the others wait in line. One that took too long, on its way or in the
 * line, is given up, and its worker asks again later: the member is behind all the while, so
 * nothing but itself waits for it, and a router that is slow is not asked faster.
 *
 * Shape:  the line has at most PEAL_REPAIRS_LINE orders.
 * Thread: the bus. Memory: owns the orders in the line. */
#ifndef PEAL_NODE_REPAIRS_H
#define PEAL_NODE_REPAIRS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"
#include "node/letter.h"

enum {
    PEAL_REPAIRS_LINE = 1024, /* every worker has PEAL_REPAIRS_MAX, and some given up lately */
    PEAL_REPAIR_MS = 2000,    /* then a page is given up */
};

struct peal_repairs {
    struct {
        uint64_t req; /* 0: free */
        uint64_t since_ms;
    } flying[PEAL_REPAIRS_MAX];
    struct peal_link line; /* of struct peal_order */
    size_t line_count;
};

void peal_repairs_init(struct peal_repairs *r);
void peal_repairs_fini(struct peal_repairs *r);
/* Puts order into the line. Errors: PEAL_EQUEUE_FULL, and it stays with the caller. */
enum peal_err peal_repairs_add(struct peal_repairs *r, struct peal_order *order, uint64_t now_ms);
/* The next one that may be sent, which is on its way from now on; NULL when there is none. The
 * caller frees it. */
struct peal_order *peal_repairs_next(struct peal_repairs *r, uint64_t now_ms);
/* It was answered, or could not be sent. False: it is none of those on their way. */
bool peal_repairs_done(struct peal_repairs *r, uint64_t req);
/* The request of one that took too long, which is forgotten; 0 when there is none. */
uint64_t peal_repairs_late(struct peal_repairs *r, uint64_t now_ms);

#endif
