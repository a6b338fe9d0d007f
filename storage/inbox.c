/* Bits are addressed relative to first rounded down to 64. When first crosses a multiple of
 * 64 the words move down; until then passed bits are only cleared, so that unread is a plain count
 * of bits. Words from word_count on are zero as far as there is room, and zero words at the end are
 * not counted, so that equal states have equal words. */
#include "storage/inbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "proto/wire.h"

static void inbox_check(const struct peal_inbox *inbox)
{
    const struct peal_numbers *n = &inbox->n;
    PEAL_ASSERT(n->first >= 1);
    PEAL_ASSERT(n->first <= n->next);
    PEAL_ASSERT(n->next - n->first <= PEAL_INBOX_MESSAGES_MAX);
    PEAL_ASSERT(n->lost_to < n->first);
    PEAL_ASSERT(n->kept <= n->next - n->first);
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
    return inbox->n.first & ~(uint64_t)63;
}

static bool in_window(const struct peal_inbox *inbox, uint64_t offset)
{
    return offset >= inbox->n.first && offset < inbox->n.next;
}

/* ---- the words of the bitmaps ----------------------------------------------------------- */

static size_t room_of(const struct peal_marks *marks)
{
    return marks->room == 0 ? 1 : marks->room;
}

static const uint64_t *words_of(const struct peal_marks *marks, bool read)
{
    if (marks->room == 0) return &marks->small[read ? 1 : 0];
    return read ? marks->words + marks->room : marks->words;
}

static uint64_t *words_to_change(struct peal_marks *marks, bool read)
{
    if (marks->room == 0) return &marks->small[read ? 1 : 0];
    return read ? marks->words + marks->room : marks->words;
}

static enum peal_err marks_reserve(struct peal_marks *marks, size_t word_count)
{
    PEAL_ASSERT(word_count <= PEAL_INBOX_WORDS);
    if (word_count <= room_of(marks)) return PEAL_OK;
    size_t room = room_of(marks);
    while (room < word_count)
        room *= 2;
    if (room > PEAL_INBOX_WORDS) room = PEAL_INBOX_WORDS;
    uint64_t *words = calloc(2 * room, sizeof *words);
    if (words == NULL) return PEAL_ENOMEM;
    size_t size = marks->word_count * sizeof *words;
    memcpy(words, words_of(marks, false), size);
    memcpy(words + room, words_of(marks, true), size);
    if (marks->room != 0) free(marks->words);
    marks->words = words;
    marks->room = (uint32_t)room;
    return PEAL_OK;
}

/* Counts the words up to the last one with a bit, which is below word_count. Read implies
 * delivered, so that one decides. */
static void marks_trim(struct peal_marks *marks, size_t word_count)
{
    const uint64_t *delivered = words_of(marks, false);
    while (word_count > 0 && delivered[word_count - 1] == 0)
        word_count--;
    marks->word_count = (uint32_t)word_count;
}

static void marks_clear(struct peal_marks *marks)
{
    size_t size = marks->word_count * sizeof(uint64_t);
    memset(words_to_change(marks, false), 0, size);
    memset(words_to_change(marks, true), 0, size);
    marks->word_count = 0;
}

static bool bit_get(const struct peal_inbox *inbox, bool read, uint64_t offset)
{
    if (!in_window(inbox, offset)) return false;
    uint64_t i = offset - base_of(inbox);
    if (i / 64 >= inbox->marks.word_count) return false;
    return (words_of(&inbox->marks, read)[i / 64] >> (i % 64)) & 1;
}

static bool words_set(uint64_t *words, uint64_t begin, uint64_t end)
{
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

/* Sets delivered, or both, of [from, to], which lies in the window. Returns whether a bit was
 * clear. */
static bool bits_set(struct peal_inbox *inbox, bool read, uint64_t from, uint64_t to)
{
    struct peal_marks *marks = &inbox->marks;
    PEAL_ASSERT(in_window(inbox, from));
    PEAL_ASSERT(in_window(inbox, to));
    uint64_t begin = from - base_of(inbox);
    uint64_t end = to - base_of(inbox);
    PEAL_ASSERT(end / 64 < room_of(marks)); /* see peal_inbox_reserve */
    bool changed = words_set(words_to_change(marks, false), begin, end);
    if (read && words_set(words_to_change(marks, true), begin, end)) changed = true;
    if (marks->word_count < end / 64 + 1) marks->word_count = (uint32_t)(end / 64 + 1);
    return changed;
}

/* Moves words from a window that begins in the word of `base` to one that begins at first. */
static void words_advance(uint64_t *words, size_t word_count, uint64_t base, uint64_t first)
{
    uint64_t down = ((first & ~(uint64_t)63) - base) / 64;
    size_t gone = down < word_count ? (size_t)down : word_count;
    memmove(words, words + gone, (word_count - gone) * sizeof *words);
    memset(words + word_count - gone, 0, gone * sizeof *words);
    words[0] &= UINT64_MAX << (first % 64);
}

/* To be called before first changes. */
static void bits_advance(struct peal_inbox *inbox, uint64_t first)
{
    struct peal_marks *marks = &inbox->marks;
    if (marks->word_count == 0) return;
    words_advance(words_to_change(marks, false), marks->word_count, base_of(inbox), first);
    words_advance(words_to_change(marks, true), marks->word_count, base_of(inbox), first);
    marks_trim(marks, marks->word_count);
}

/* The bits of word w that stand for offsets of the window. */
static uint64_t word_mask(const struct peal_inbox *inbox, size_t w)
{
    uint64_t begin = base_of(inbox) + w * 64;
    if (inbox->n.next <= begin) return 0;
    uint64_t mask = UINT64_MAX;
    if (w == 0) mask <<= inbox->n.first % 64;
    if (inbox->n.next - begin < 64) mask &= ((uint64_t)1 << (inbox->n.next - begin)) - 1;
    return mask;
}

/* Clears what is not in the window any more. */
static void bits_clip(struct peal_inbox *inbox)
{
    struct peal_marks *marks = &inbox->marks;
    for (size_t w = 0; w < marks->word_count; w++) {
        words_to_change(marks, false)[w] &= word_mask(inbox, w);
        words_to_change(marks, true)[w] &= word_mask(inbox, w);
    }
    marks_trim(marks, marks->word_count);
}

const uint64_t *peal_inbox_delivered_words(const struct peal_inbox *inbox, size_t *word_count)
{
    *word_count = inbox->marks.word_count;
    return words_of(&inbox->marks, false);
}

const uint64_t *peal_inbox_read_words(const struct peal_inbox *inbox, size_t *word_count)
{
    *word_count = inbox->marks.word_count;
    return words_of(&inbox->marks, true);
}

enum peal_err peal_inbox_reserve(struct peal_inbox *inbox, uint64_t next)
{
    uint64_t base = base_of(inbox);
    if (next <= base) return PEAL_OK;
    uint64_t word_count = (next - base - 1) / 64 + 1;
    /* A longer window does not begin in this word any more. */
    if (word_count > PEAL_INBOX_WORDS) word_count = PEAL_INBOX_WORDS;
    return marks_reserve(&inbox->marks, (size_t)word_count);
}

/* ---- the whole head --------------------------------------------------------------------- */

/* Counts can be too high after damage; of an empty window the truth is known. */
static void reset_when_empty(struct peal_inbox *inbox)
{
    if (inbox->n.first < inbox->n.next) return;
    inbox->n.kept = 0;
    inbox->n.bytes = 0;
    inbox->n.oldest_ms = 0;
    inbox->n.expires_ms = 0;
}

void peal_inbox_init(struct peal_inbox *inbox, uint64_t epoch)
{
    PEAL_ASSERT(epoch != 0);
    *inbox = (struct peal_inbox){.n = {.epoch = epoch, .next = 1, .first = 1}};
}

void peal_inbox_fini(struct peal_inbox *inbox)
{
    if (inbox->marks.room != 0) free(inbox->marks.words);
    inbox->marks = (struct peal_marks){0};
}

enum peal_err peal_inbox_copy(const struct peal_inbox *inbox, struct peal_inbox *out)
{
    size_t word_count = inbox->marks.word_count;
    *out = (struct peal_inbox){.n = inbox->n};
    enum peal_err err = marks_reserve(&out->marks, word_count);
    if (err != PEAL_OK) return err;
    size_t size = word_count * sizeof(uint64_t);
    memcpy(words_to_change(&out->marks, false), words_of(&inbox->marks, false), size);
    memcpy(words_to_change(&out->marks, true), words_of(&inbox->marks, true), size);
    out->marks.word_count = inbox->marks.word_count;
    return PEAL_OK;
}

/* Makes true what the header says of the shape, whatever the numbers are. */
static void numbers_clamp(struct peal_numbers *n)
{
    if (n->first == 0) n->first = 1;
    if (n->next < n->first) n->next = n->first;
    if (n->next - n->first > PEAL_INBOX_MESSAGES_MAX) n->first = n->next - PEAL_INBOX_MESSAGES_MAX;
    if (n->lost_to >= n->first) n->lost_to = n->first - 1;
    if (n->kept > n->next - n->first) n->kept = n->next - n->first;
}

bool peal_inbox_continues(const struct peal_inbox *inbox, const struct peal_numbers *n)
{
    return n->gid == inbox->n.gid && n->first >= inbox->n.first;
}

void peal_inbox_become(struct peal_inbox *inbox, const struct peal_numbers *n)
{
    struct peal_numbers numbers = *n;
    numbers_clamp(&numbers);
    if (peal_inbox_continues(inbox, &numbers))
        bits_advance(inbox, numbers.first);
    else
        marks_clear(&inbox->marks);
    inbox->n = numbers;
    bits_clip(inbox);
    reset_when_empty(inbox);
    inbox_check(inbox);
}

void peal_inbox_set(struct peal_inbox *inbox, bool read, uint64_t from, uint64_t to)
{
    if (from < inbox->n.first) from = inbox->n.first;
    if (to >= inbox->n.next) to = inbox->n.next - 1;
    if (from <= to) bits_set(inbox, read, from, to);
}

bool peal_inbox_fits(const struct peal_inbox *inbox)
{
    return inbox->n.next - inbox->n.first < PEAL_INBOX_MESSAGES_MAX;
}

void peal_inbox_set_words(struct peal_inbox *inbox, const uint64_t *delivered, const uint64_t *read,
                          size_t word_count)
{
    struct peal_marks *marks = &inbox->marks;
    for (size_t w = 0; w < word_count; w++) {
        uint64_t mask = word_mask(inbox, w);
        uint64_t bits = (delivered[w] | read[w]) & mask;
        if (bits == 0) continue;
        PEAL_ASSERT(w < room_of(marks)); /* see peal_inbox_reserve */
        words_to_change(marks, false)[w] |= bits;
        words_to_change(marks, true)[w] |= read[w] & mask;
        if (marks->word_count < w + 1) marks->word_count = (uint32_t)(w + 1);
    }
}

uint64_t peal_inbox_add(struct peal_inbox *inbox, uint64_t bytes, uint64_t now_ms,
                        uint64_t expires_ms)
{
    PEAL_ASSERT(peal_inbox_fits(inbox));
    if (inbox->n.kept == 0) inbox->n.oldest_ms = now_ms;
    if (expires_ms != 0 && (inbox->n.expires_ms == 0 || expires_ms < inbox->n.expires_ms))
        inbox->n.expires_ms = expires_ms;
    inbox->n.kept++;
    inbox->n.bytes = add_saturating(inbox->n.bytes, bytes);
    uint64_t offset = inbox->n.next++;
    inbox->n.rev++; /* one more is unread */
    inbox_check(inbox);
    return offset;
}

bool peal_inbox_mark(struct peal_inbox *inbox, const struct peal_config_group *policy,
                     const struct peal_mark *mark, uint64_t now_ms)
{
    if ((mark->flags & (PEAL_FLAG_ACK | PEAL_FLAG_READ)) == 0) return false;
    bool read = (mark->flags & PEAL_FLAG_READ) != 0 || policy->keep.until == PEAL_UNTIL_ACKED;
    bool changed = false;

    uint64_t upto = mark->flags & PEAL_FLAG_ALL ? UINT64_MAX : mark->upto;
    if (upto >= inbox->n.next) upto = inbox->n.next - 1;
    if (upto >= inbox->n.first) changed = bits_set(inbox, read, inbox->n.first, upto);
    for (size_t i = 0; i < mark->offset_count; i++) {
        uint64_t offset = mark->offsets[i];
        if (in_window(inbox, offset) && bits_set(inbox, read, offset, offset)) changed = true;
    }
    if (!changed) return false;
    inbox->n.rev++;
    inbox->n.last_mark_ms = now_ms;
    return true;
}

bool peal_inbox_delivered(const struct peal_inbox *inbox, uint64_t offset)
{
    return bit_get(inbox, false, offset);
}

bool peal_inbox_read(const struct peal_inbox *inbox, uint64_t offset)
{
    return bit_get(inbox, true, offset);
}

bool peal_inbox_settled(const struct peal_inbox *inbox, const struct peal_config_group *policy,
                        uint64_t offset)
{
    return bit_get(inbox, policy->keep.until == PEAL_UNTIL_READ, offset);
}

uint64_t peal_inbox_unread(const struct peal_inbox *inbox)
{
    const uint64_t *words = words_of(&inbox->marks, true);
    uint64_t read = 0;
    for (size_t i = 0; i < inbox->marks.word_count; i++)
        read += (uint64_t)__builtin_popcountll(words[i]);
    PEAL_ASSERT(read <= inbox->n.next - inbox->n.first);
    return inbox->n.next - inbox->n.first - read;
}

static bool over_limits(const struct peal_inbox *inbox, const struct peal_config_group *policy,
                        uint64_t more, uint64_t more_bytes)
{
    if (inbox->n.next - inbox->n.first + more > PEAL_INBOX_MESSAGES_MAX) return true;
    if (inbox->n.kept + more <= 1) return false;
    return inbox->n.kept + more > policy->keep.messages ||
           add_saturating(inbox->n.bytes, more_bytes) > policy->keep.bytes;
}

enum peal_gone peal_inbox_judge(const struct peal_inbox *inbox,
                                const struct peal_config_group *policy, uint64_t stored_ms,
                                uint64_t expires_ms, uint64_t now_ms, uint64_t more,
                                uint64_t more_bytes)
{
    bool settled = peal_inbox_settled(inbox, policy, inbox->n.first);
    if (settled && now_ms >= add_saturating(inbox->n.last_mark_ms, policy->keep.settled_ms))
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
    if (lost) PEAL_ASSERT(offset == inbox->n.first);

    inbox->n.kept = subtract_saturating(inbox->n.kept, 1);
    inbox->n.bytes = subtract_saturating(inbox->n.bytes, bytes);
    if (bits_set(inbox, true, offset, offset)) inbox->n.rev++;
    if (lost) {
        bits_advance(inbox, offset + 1);
        inbox->n.lost_to = offset;
        inbox->n.first = offset + 1;
        reset_when_empty(inbox);
    }
    inbox_check(inbox);
}

void peal_inbox_advance(struct peal_inbox *inbox, uint64_t first, uint64_t oldest_ms)
{
    PEAL_ASSERT(first >= inbox->n.first);
    PEAL_ASSERT(first <= inbox->n.next);
    for (uint64_t offset = inbox->n.first; offset < first; offset++) {
        if (peal_inbox_read(inbox, offset)) continue; /* removed, or a hole */
        inbox->n.lost_to = offset;
        inbox->n.kept = subtract_saturating(inbox->n.kept, 1);
        inbox->n.rev++;
    }
    bits_advance(inbox, first);
    inbox->n.first = first;
    inbox->n.oldest_ms = oldest_ms;
    reset_when_empty(inbox);
    if (inbox->n.kept > inbox->n.next - inbox->n.first)
        inbox->n.kept = inbox->n.next - inbox->n.first;
    inbox_check(inbox);
}

uint64_t peal_inbox_due_ms(const struct peal_inbox *inbox, const struct peal_config_group *policy)
{
    if (inbox->n.first == inbox->n.next) return UINT64_MAX;
    if (over_limits(inbox, policy, 0, 0)) return 0;
    uint64_t due = add_saturating(inbox->n.oldest_ms, policy->keep.age_ms);
    if (inbox->n.expires_ms != 0 && inbox->n.expires_ms < due) due = inbox->n.expires_ms;
    if (peal_inbox_settled(inbox, policy, inbox->n.first)) {
        uint64_t settled = add_saturating(inbox->n.last_mark_ms, policy->keep.settled_ms);
        if (settled < due) due = settled;
    }
    return due;
}
