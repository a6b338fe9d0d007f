#include "proto/group.h"

#include <string.h>
#include <xxhash.h>

#include "base/assert.h"
#include "proto/utf8.h"

static const char inbox_prefix[] = "user:";
enum { INBOX_PREFIX_SIZE = sizeof inbox_prefix - 1 };

/* C0, DEL, and C1, which UTF-8 writes as C2 80 .. C2 9F. */
static bool has_control(struct peal_span text)
{
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if (c < 0x20 || c == 0x7f) return true;
        if (c == 0xc2 && i + 1 < text.size && (unsigned char)text.at[i + 1] < 0xa0) return true;
    }
    return false;
}

enum peal_err peal_name_check(struct peal_span name)
{
    if (name.size == 0 || name.size > PEAL_NAME_MAX) return PEAL_EBAD_GROUP;
    if (!peal_utf8_valid(name) || has_control(name)) return PEAL_EBAD_GROUP;
    return PEAL_OK;
}

uint64_t peal_group_hash(struct peal_span group)
{
    return XXH3_64bits(group.at, group.size);
}

uint16_t peal_hash_slot(uint64_t hash)
{
    _Static_assert(PEAL_SLOTS == 1 << 10, "a slot is the top 10 bits of the hash");
    return (uint16_t)(hash >> 54);
}

uint16_t peal_group_slot(struct peal_span group)
{
    return peal_hash_slot(peal_group_hash(group));
}

size_t peal_slot_router(uint16_t slot, size_t router_count)
{
    PEAL_ASSERT(slot < PEAL_SLOTS);
    PEAL_ASSERT(router_count > 0);
    return slot * router_count / PEAL_SLOTS;
}

bool peal_group_is_inbox(struct peal_span group)
{
    return group.size > INBOX_PREFIX_SIZE && peal_span_starts(group, inbox_prefix);
}

struct peal_span peal_group_user(struct peal_span group)
{
    if (!peal_group_is_inbox(group)) return (struct peal_span){0};
    return peal_span_make(group.at + INBOX_PREFIX_SIZE, group.size - INBOX_PREFIX_SIZE);
}

enum peal_err peal_group_of_user(struct peal_span user, struct peal_buf *out)
{
    if (peal_name_check(user) != PEAL_OK) return PEAL_EBAD_GROUP;
    if (user.size > PEAL_NAME_MAX - INBOX_PREFIX_SIZE) return PEAL_EBAD_GROUP;
    peal_buf_add(out, inbox_prefix, INBOX_PREFIX_SIZE);
    peal_buf_add_span(out, user);
    return PEAL_OK;
}

/* On a mismatch only the last capture takes one byte more. To lengthen an earlier one cannot
 * help: it found its literal at the first possible place, so whatever follows has the most room
 * there. Each byte of the name is tried at most once per start of the last capture: at worst the
 * product of both lengths, however many captures there are. */
bool peal_pattern_matches(const char *pattern, struct peal_span name)
{
    const char *last_close = strrchr(pattern, '}'); /* a `{` behind it is a plain character */
    const char *p = pattern;
    size_t at = 0;
    const char *resume = NULL; /* in the pattern, behind the last capture */
    size_t taken = 0;          /* in the name, where that capture ends for now */
    for (;;) {
        if (p[0] == '*' && p[1] == '\0') return true;
        if (*p == '{' && last_close != NULL && p < last_close) {
            if (at == name.size) return false;
            resume = p = strchr(p, '}') + 1;
            taken = ++at;
        } else if (*p == '\0' && at == name.size) {
            return true;
        } else if (*p != '\0' && at < name.size && *p == name.at[at]) {
            p++;
            at++;
        } else {
            if (resume == NULL || taken == name.size) return false;
            p = resume;
            at = ++taken;
        }
    }
}

const struct peal_config_group *peal_group_policy(const struct peal_config *config,
                                                  struct peal_span group)
{
    size_t i = 0;
    while (i < config->group_count && !peal_pattern_matches(config->groups[i].match, group))
        i++;
    PEAL_ASSERT(i < config->group_count); /* the last one matches everything */
    return &config->groups[i];
}

bool peal_policy_keeps(const struct peal_config_group *policy)
{
    return policy->durable || policy->history.messages > 0;
}

void peal_epoch_add(struct peal_buf *out, uint64_t epoch)
{
    peal_buf_add_format(out, "%llx", (unsigned long long)epoch);
}

/* Only the form that peal_epoch_add writes: one epoch has one text. */
enum peal_err peal_epoch_parse(struct peal_span text, uint64_t *out)
{
    if (text.size == 0 || text.size > PEAL_EPOCH_TEXT_MAX) return PEAL_EBAD_FIELD;
    if (text.at[0] == '0' && text.size > 1) return PEAL_EBAD_FIELD;
    uint64_t epoch = 0;
    for (size_t i = 0; i < text.size; i++) {
        char c = text.at[i];
        uint64_t digit;
        if (c >= '0' && c <= '9')
            digit = (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (uint64_t)(c - 'a') + 10;
        else
            return PEAL_EBAD_FIELD;
        epoch = epoch << 4 | digit;
    }
    *out = epoch;
    return PEAL_OK;
}
