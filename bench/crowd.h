/* bench/crowd.h: one client process, very many connections that connect, join and count.
 *
 * It has every processes-th connection, beginning with `which`, and talks to nobody but the server
 * and the board. Handshakes are pipelined, `pipelined` of them under way. What comes is read into
 * one buffer that all connections share; of a payload only the stamp is looked at.
 *
 * Thread: a process of its own. Memory: for a connection about 100 bytes and 16 for each group. */
#ifndef PEAL_BENCH_CROWD_H
#define PEAL_BENCH_CROWD_H

#include "bench/board.h"

/* Runs until the board says stop. Returns the exit code of the process; what went wrong stands in
 * its tally. */
int peal_crowd_run(const struct peal_plan *plan, struct peal_board *board, uint32_t which);

#endif
