/* Bits are addressed relative to first rounded down to 64. When first crosses a multiple of
 * 64 the words move down; until then passed bits are only cleared, so that equal states have
 * equal bytes and unread is a plain count of bits. */
#include "storage/inbox.h"

#include <string.h>

#include "base/assert.h"
#include "proto/wire.h"

static void inbox_check(const struct peal_inbox *inbox)
{
    PEAL_ASSERT(inbox->first >= 1);
    PEAL_ASSERT(inbox->first <= inbox->next);
    PEAL_ASSERT(inbox->next - inbox->first <= PEAL_INBOX_MESSAGES_MAX);
    PEAL_ASSERT(inbox->lost_to < inbox->first);
    PEAL_ASSERT(inbox->kept <= inbox->next - inbox->first);
}

static uint64_t add_saturating(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t subtract_saturating(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static uint64_t base_of(const struct peal_inbox *inbox)
{
    return inbox->first & ~(uint64_t)63;
}

static bool in_window(const struct peal_inbox *inbox, uint64_t offset)
{
    return offset >= inbox->first && offset < inbox->next;
}

static bool bit_get(const struct peal_inbox *inbox, const uint64_t *words, uint64_t offset)
{
    if (!in_window(inbox, offset)) return false;
    uint64_t i = offset - base_of(inbox);
    return (words[i / 64] >> (i % 64)) & 1;
}

/* Sets the bits [from, to], which lie in the window. Returns whether one was clear. */
static bool bits_set(const struct peal_inbox *inbox, uint64_t *words, uint64_t from, uint64_t to)
{
    PEAL_ASSERT(in_window(inbox, from));
    PEAL_ASSERT(in_window(inbox, to));
    uint64_t begin = from - base_of(inbox);
    uint64_t end = to - base_of(inbox);
    bool changed = false;
    for (uint64_t w = begin / 64; w <= end / 64; w++) {
        uint64_t mask = UINT64_MAX;
        if (w == begin / 64) mask &= UINT64_MAX << (begin % 64);
        if (w == end / 64) mask &= UINT64_MAX >> (63 - end % 64);
        if ((words[w] & mask) != mask) changed = true;
        words[w] |= mask;
    }
    return changed;
}

/* Moves bitmaps from the window of `inbox` to one that begins at first. */
static void bits_advance(const struct peal_inbox *inbox, uint64_t *words, uint64_t first)
{
    uint64_t down = (first & ~(uint64_t)63) - base_of(inbox);
    uint64_t gone = down / 64 < PEAL_INBOX_WORDS ? down / 64 : PEAL_INBOX_WORDS;
    memmove(words, words + gone, (PEAL_INBOX_WORDS - gone) * sizeof *words);
    memset(words + PEAL_INBOX_WORDS - gone, 0, gone * sizeof *words);
    words[0] &= UINT64_MAX << (first % 64);
}

/* Counts can be too high after damage; of an empty window the truth is known. */
static void reset_when_empty(struct peal_inbox *inbox)
{
    if (inbox->first < inbox->next) return;
    inbox->kept = 0;
    inbox->bytes = 0;
    inbox->oldest_ms = 0;
    inbox->expires_ms = 0;
}

void peal_inbox_init(struct peal_inbox *inbox, uint64_t gid, uint64_t epoch)
{
    PEAL_ASSERT(epoch != 0);
    *inbox = (struct peal_inbox){.gid = gid, .epoch = epoch, .next = 1, .first = 1};
}

bool peal_inbox_fits(const struct peal_inbox *inbox)
{
    return inbox->next - inbox->first < PEAL_INBOX_MESSAGES_MAX;
}

uint64_t peal_inbox_add(struct peal_inbox *inbox, uint64_t bytes, uint64_t now_ms,
                        uint64_t expires_ms)
{
    PEAL_ASSERT(peal_inbox_fits(inbox));
    if (inbox->kept == 0) inbox->oldest_ms = now_ms;
    if (expires_ms != 0 && (inbox->expires_ms == 0 || expires_ms < inbox->expires_ms))
        inbox->expires_ms = expires_ms;
    inbox->kept++;
    inbox->bytes = add_saturating(inbox->bytes, bytes);
    uint64_t offset = inbox->next++;
    inbox->rev++; /* one more is unread */
    inbox_check(inbox);
    return offset;
}

static bool mark_range(struct peal_inbox *inbox, bool read, uint64_t from, uint64_t to)
{
    bool changed = bits_set(inbox, inbox->delivered, from, to);
    if (read && bits_set(inbox, inbox->read, from, to)) changed = true;
    return changed;
}

bool peal_inbox_mark(struct peal_inbox *inbox, const struct peal_config_group *policy,
                     const struct peal_mark *mark, uint64_t now_ms)
{
    if ((mark->flags & (PEAL_FLAG_ACK | PEAL_FLAG_READ)) == 0) return false;
    bool read = (mark->flags & PEAL_FLAG_READ) != 0 || policy->keep.until == PEAL_UNTIL_ACKED;
    bool changed = false;

    uint64_t upto = mark->flags & PEAL_FLAG_ALL ? UINT64_MAX : mark->upto;
    if (upto >= inbox->next) upto = inbox->next - 1;
    if (upto >= inbox->first) changed = mark_range(inbox, read, inbox->first, upto);
    for (size_t i = 0; i < mark->offset_count; i++) {
        uint64_t offset = mark->offsets[i];
        if (in_window(inbox, offset) && mark_range(inbox, read, offset, offset)) changed = true;
    }
    if (!changed) return false;
    inbox->rev++;
    inbox->last_mark_ms = now_ms;
    return true;
}

bool peal_inbox_delivered(const struct peal_inbox *inbox, uint64_t offset)
{
    return bit_get(inbox, inbox->delivered, offset);
}

bool peal_inbox_read(const struct peal_inbox *inbox, uint64_t offset)
{
    return bit_get(inbox, inbox->read, offset);
}

bool peal_inbox_settled(const struct peal_inbox *inbox, const struct peal_config_group *policy,
                        uint64_t offset)
{
    return bit_get(inbox, policy->keep.until == PEAL_UNTIL_READ ? inbox->read : inbox->delivered,
                   offset);
}

uint64_t peal_inbox_unread(const struct peal_inbox *inbox)
{
    uint64_t read = 0;
    for (size_t i = 0; i < PEAL_INBOX_WORDS; i++)
        read += (uint64_t)__builtin_popcountll(inbox->read[i]);
    PEAL_ASSERT(read <= inbox->next - inbox->first);
    return inbox->next - inbox->first - read;
}

static bool over_limits(const struct peal_inbox *inbox, const struct peal_config_group *policy,
                        uint64_t more, uint64_t more_bytes)
{
    if (inbox->next - inbox->first + more > PEAL_INBOX_MESSAGES_MAX) return true;
    if (inbox->kept + more <= 1) return false;
    return inbox->kept + more > policy->keep.messages ||
           add_saturating(inbox->bytes, more_bytes) > policy->keep.bytes;
}

enum peal_gone peal_inbox_judge(const struct peal_inbox *inbox,
                                const struct peal_config_group *policy, uint64_t stored_ms,
                                uint64_t expires_ms, uint64_t now_ms, uint64_t more,
                                uint64_t more_bytes)
{
    bool settled = peal_inbox_settled(inbox, policy, inbox->first);
    if (settled && now_ms >= add_saturating(inbox->last_mark_ms, policy->keep.settled_ms))
        return PEAL_GONE_SETTLED;
    if (expires_ms != 0 && now_ms >= expires_ms) return PEAL_GONE_EXPIRED;
    if (now_ms >= add_saturating(stored_ms, policy->keep.age_ms))
        return settled ? PEAL_GONE_SETTLED : PEAL_GONE_AGED;
    if (over_limits(inbox, policy, more, more_bytes))
        return settled ? PEAL_GONE_SETTLED : PEAL_GONE_EVICTED;
    return PEAL_GONE_NOT;
}

void peal_inbox_remove(struct peal_inbox *inbox, uint64_t offset, uint64_t bytes,
                       enum peal_gone gone)
{
    PEAL_ASSERT(gone != PEAL_GONE_NOT);
    PEAL_ASSERT(in_window(inbox, offset));
    /* Only prefixes are evicted: what is lost must be below the window in the end. */
    bool lost = gone == PEAL_GONE_EVICTED || gone == PEAL_GONE_AGED;
    if (lost) PEAL_ASSERT(offset == inbox->first);

    inbox->kept = subtract_saturating(inbox->kept, 1);
    inbox->bytes = subtract_saturating(inbox->bytes, bytes);
    if (bits_set(inbox, inbox->read, offset, offset)) inbox->rev++;
    bits_set(inbox, inbox->delivered, offset, offset);
    if (lost) {
        bits_advance(inbox, inbox->delivered, offset + 1);
        bits_advance(inbox, inbox->read, offset + 1);
        inbox->lost_to = offset;
        inbox->first = offset + 1;
        reset_when_empty(inbox);
    }
    inbox_check(inbox);
}

void peal_inbox_advance(struct peal_inbox *inbox, uint64_t first, uint64_t oldest_ms)
{
    PEAL_ASSERT(first >= inbox->first);
    PEAL_ASSERT(first <= inbox->next);
    for (uint64_t offset = inbox->first; offset < first; offset++) {
        if (peal_inbox_read(inbox, offset)) continue; /* removed, or a hole */
        inbox->lost_to = offset;
        inbox->kept = subtract_saturating(inbox->kept, 1);
        inbox->rev++;
    }
    bits_advance(inbox, inbox->delivered, first);
    bits_advance(inbox, inbox->read, first);
    inbox->first = first;
    inbox->oldest_ms = oldest_ms;
    reset_when_empty(inbox);
    if (inbox->kept > inbox->next - inbox->first) inbox->kept = inbox->next - inbox->first;
    inbox_check(inbox);
}

uint64_t peal_inbox_due_ms(const struct peal_inbox *inbox, const struct peal_config_group *policy)
{
    if (inbox->first == inbox->next) return UINT64_MAX;
    if (over_limits(inbox, policy, 0, 0)) return 0;
    uint64_t due = add_saturating(inbox->oldest_ms, policy->keep.age_ms);
    if (inbox->expires_ms != 0 && inbox->expires_ms < due) due = inbox->expires_ms;
    if (peal_inbox_settled(inbox, policy, inbox->first)) {
        uint64_t settled = add_saturating(inbox->last_mark_ms, policy->keep.settled_ms);
        if (settled < due) due = settled;
    }
    return due;
}
