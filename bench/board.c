#include "bench/board.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct peal_board *peal_board_new(const struct peal_plan *plan)
{
    uint32_t ring = 2;
    while (ring < plan->window * 2)
        ring *= 2;
    size_t head = sizeof(struct peal_board) + plan->processes * sizeof(struct peal_tally);
    size_t warm = (size_t)plan->processes * plan->groups * sizeof(uint32_t);
    size_t passed = (size_t)plan->processes * ring * sizeof(uint32_t);
    head = (head + 63) & ~(size_t)63;
    warm = (warm + 63) & ~(size_t)63;
    char *at =
        mmap(NULL, head + warm + passed, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return NULL;
    struct peal_board *board = (struct peal_board *)(void *)at;
    board->size = head + warm + passed;
    board->ring_mask = ring - 1;
    board->warm = (_Atomic uint32_t *)(void *)(at + head);
    board->passed = (_Atomic uint32_t *)(void *)(at + head + warm);
    return board;
}

void peal_board_free(struct peal_board *board)
{
    munmap(board, board->size);
}

uint64_t peal_board_sum(const struct peal_board *board, const struct peal_plan *plan, size_t offset)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < plan->processes; i++) {
        const char *tally = (const char *)&board->tallies[i];
        sum += atomic_load_explicit((const peal_tick *)(const void *)(tally + offset),
                                    memory_order_relaxed);
    }
    return sum;
}

void peal_board_wait(struct peal_board *board, uint64_t max_ns)
{
    struct timespec timeout = {.tv_sec = (time_t)(max_ns / 1000000000),
                               .tv_nsec = (long)(max_ns % 1000000000)};
    syscall(SYS_futex, &board->waiting, FUTEX_WAIT, 1, &timeout, NULL, 0);
}

void peal_board_wake(struct peal_board *board)
{
    if (atomic_load(&board->waiting) == 0) return;
    if (atomic_exchange(&board->waiting, 0) == 1)
        syscall(SYS_futex, &board->waiting, FUTEX_WAKE, 1, NULL, NULL, 0);
}
