/* storage/options.h: what tests replace in a store: its clocks.
 *
 * Thread: called on the store thread only. */
#ifndef PEAL_STORAGE_OPTIONS_H
#define PEAL_STORAGE_OPTIONS_H

#include <stdint.h>

#include "storage/store.h"

struct peal_store_options {
    uint64_t (*wall_ms)(void *ctx);
    uint64_t (*mono_ms)(void *ctx);
    void *ctx;
};

/* peal_store_start with options. */
enum peal_err peal_store_start_with(const char *dir, const struct peal_config *config,
                                    const struct peal_store_events *events,
                                    const struct peal_store_options *options,
                                    struct peal_store **out, char *why, size_t why_size);

#endif
