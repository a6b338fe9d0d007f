/* cli/memory.h: the allocator of the program, mimalloc in place of the C library's.
 *
 * A router and a node have millions of small objects, met in no order: what finding them costs is
 * waits for memory. mimalloc puts objects of one size side by side, in huge pages where the kernel
 * gives them on request (transparent_hugepage: madvise or always), and takes back from one thread
 * what another one freed without a lock. docs/decisions/0009 has the figures.
 *
 * Builds with a sanitizer keep the sanitizer's allocator.
 *
 * Thread: main, before it starts others. */
#ifndef PEAL_CLI_MEMORY_H
#define PEAL_CLI_MEMORY_H

/* Asks for huge pages, unless the environment says MIMALLOC_LARGE_OS_PAGES=0. */
void peal_memory_start(void);

#endif
