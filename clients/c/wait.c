#include <errno.h>
#include <jansson.h>
#include <time.h>

#include "base/clock.h"
#include "clients/c/peal.h"

enum { AFTER_MS = 1000 }; /* where the server does not say */

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Of {"error": {"after_ms"}}; 0 without it. */
static uint64_t after_of(const json_t *result)
{
    const json_t *after = json_object_get(json_object_get(result, "error"), "after_ms");
    return json_integer_value(after) > 0 ? (uint64_t)json_integer_value(after) : 0;
}

uint64_t peal_client_after_ms(const struct peal_client_answer *answer)
{
    if (answer->status != 429 && answer->status != 503) return 0;
    json_t *root = json_loadb(answer->body.at == NULL ? "" : answer->body.at, answer->body.size,
                              JSON_ALLOW_NUL, NULL);
    uint64_t after_ms = after_of(root);
    const json_t *results = json_object_get(root, "results");
    for (size_t i = 0; i < json_array_size(results); i++)
        after_ms = larger(after_ms, after_of(json_array_get(results, i)));
    json_decref(root);
    return after_ms == 0 ? AFTER_MS : after_ms;
}

bool peal_client_wait(const struct peal_client_answer *answer, uint64_t deadline_ms)
{
    uint64_t after_ms = peal_client_after_ms(answer);
    uint64_t now_ms = peal_clock_mono_ms();
    if (after_ms == 0 || now_ms >= deadline_ms || after_ms >= deadline_ms - now_ms) return false;
    uint64_t spare_ms = deadline_ms - now_ms - after_ms;
    uint64_t spread_ms = after_ms / 2 < spare_ms ? after_ms / 2 : spare_ms;
    if (spread_ms > 0) after_ms += peal_random_u64() % spread_ms;
    struct timespec rest = {.tv_sec = (time_t)(after_ms / 1000),
                            .tv_nsec = (long)(after_ms % 1000) * 1000000};
    while (nanosleep(&rest, &rest) != 0 && errno == EINTR) {
    }
    return true;
}
