/* Input: a pattern, a NUL, a name. The matcher must agree with one that tries every length of
 * every capture; epochs and user groups must read back. */
#include <stdlib.h>

#include "base/assert.h"
#include "proto/group.h"
#include "proto/utf8.h"

enum { PATTERN_MAX = 24, NAME_MAX_HERE = 12 }; /* the reference is exponential */

static bool reference_matches(const char *pattern, struct peal_span name)
{
    if (pattern[0] == '\0') return name.size == 0;
    if (pattern[0] == '*' && pattern[1] == '\0') return true;
    const char *close = pattern[0] == '{' ? strchr(pattern, '}') : NULL;
    if (close == NULL)
        return name.size > 0 && name.at[0] == pattern[0] &&
               reference_matches(pattern + 1, peal_span_make(name.at + 1, name.size - 1));
    for (size_t taken = 1; taken <= name.size; taken++)
        if (reference_matches(close + 1, peal_span_make(name.at + taken, name.size - taken)))
            return true;
    return false;
}

static void check_names(struct peal_span name)
{
    PEAL_ASSERT(peal_group_slot(name) < PEAL_SLOTS);
    struct peal_buf group = {0};
    if (peal_group_of_user(name, &group) == PEAL_OK) {
        PEAL_ASSERT(peal_name_check(name) == PEAL_OK);
        PEAL_ASSERT(peal_name_check(peal_buf_span(&group)) == PEAL_OK);
        PEAL_ASSERT(peal_span_equal(peal_group_user(peal_buf_span(&group)), name));
    } else {
        PEAL_ASSERT(group.size == 0);
    }
    peal_buf_fini(&group);
    if (peal_name_check(name) != PEAL_OK) return;
    PEAL_ASSERT(peal_utf8_valid(name));
    PEAL_ASSERT(name.size >= 1);
    PEAL_ASSERT(name.size <= PEAL_NAME_MAX);
    for (size_t i = 0; i < name.size; i++)
        PEAL_ASSERT((unsigned char)name.at[i] >= 0x20);
}

static void check_epoch(struct peal_span text)
{
    uint64_t epoch;
    if (peal_epoch_parse(text, &epoch) != PEAL_OK) return;
    struct peal_buf again = {0};
    peal_epoch_add(&again, epoch);
    PEAL_ASSERT(peal_span_equal(peal_buf_span(&again), text));
    peal_buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size == 0 ? NULL : memchr(data, '\0', size);
    if (end == NULL) return 0;
    const char *pattern = (const char *)data; /* ended by the NUL */
    struct peal_span name = peal_span_make(end + 1, size - (size_t)(end - data) - 1);
    bool matches = peal_pattern_matches(pattern, name);
    if (strlen(pattern) <= PATTERN_MAX && name.size <= NAME_MAX_HERE)
        PEAL_ASSERT(matches == reference_matches(pattern, name));
    check_names(name);
    check_epoch(name);
    return 0;
}
