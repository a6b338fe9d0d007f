#include "tests/contract/contract.h"

#include <signal.h>

static enum peal_err local_start(const char *dir, const struct peal_config *config,
                                 const struct peal_store_events *events,
                                 const struct peal_store_options *options, void **out, char *why,
                                 size_t why_size)
{
    struct peal_store *store;
    enum peal_err err = peal_store_start_with(dir, config, events, options, &store, why, why_size);
    *out = store;
    return err;
}

static void local_stop(void *store)
{
    peal_store_stop(store);
}

static enum peal_err local_submit(void *store, struct peal_store_op *op)
{
    return peal_store_submit(store, op);
}

static enum peal_err local_read(void *store, struct peal_store_fetch *fetch)
{
    return peal_store_read(store, fetch);
}

static struct peal_span local_slots(const void *store)
{
    return peal_store_slots(store);
}

static uint64_t local_generation(const void *store)
{
    return peal_store_generation(store);
}

static void local_crash(pid_t pid)
{
    kill(pid, SIGKILL);
}

const struct contract_store contract_local = {
    .name = "local",
    .can = CONTRACT_COLLAPSE,
    .start = local_start,
    .stop = local_stop,
    .submit = local_submit,
    .read = local_read,
    .slots = local_slots,
    .generation = local_generation,
    .crash = local_crash,
};
