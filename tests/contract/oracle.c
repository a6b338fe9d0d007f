#include "tests/contract/oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "proto/envelope.h"
#include "proto/group.h"
#include "tests/contract/contract.h"

typedef unsigned long long ull;

static bool is_inbox(const struct oracle_group *g)
{
    return peal_group_is_inbox(peal_span_of(g->name));
}

static struct oracle_message *message_at(const struct oracle_group *g, uint64_t offset)
{
    return &g->at[offset - g->first];
}

static bool is_here(const struct oracle_group *g, uint64_t offset)
{
    return offset >= g->first && offset < g->next && message_at(g, offset)->here;
}

static uint64_t add_saturating(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* ---- begin and end ---------------------------------------------------------------------- */

static void forget_messages(struct oracle_group *g)
{
    for (uint64_t offset = g->first; offset < g->next; offset++)
        peal_bytes_unref(message_at(g, offset)->envelope);
    g->first = g->next;
}

void oracle_init(struct oracle *o, const struct peal_config *config, unsigned can,
                 uint64_t generation, uint64_t now_ms)
{
    *o = (struct oracle){.config = config, .can = can, .generation = generation, .now_ms = now_ms};
}

void oracle_fini(struct oracle *o)
{
    for (size_t i = 0; i < o->group_count; i++) {
        forget_messages(&o->groups[i]);
        free(o->groups[i].at);
    }
    free(o->ids);
}

static void *copy_of(const void *at, size_t size)
{
    void *copy = malloc(size == 0 ? 1 : size);
    if (copy == NULL) abort();
    return size == 0 ? copy : memcpy(copy, at, size);
}

void oracle_copy(struct oracle *to, const struct oracle *from)
{
    *to = *from;
    to->ids = copy_of(from->ids, from->id_count * sizeof *from->ids);
    to->id_room = from->id_count;
    for (size_t i = 0; i < from->group_count; i++) {
        struct oracle_group *g = &to->groups[i];
        g->room = (size_t)(g->next - g->first);
        g->at = copy_of(g->at, g->room * sizeof *g->at);
        for (size_t m = 0; m < g->room; m++)
            peal_bytes_ref(g->at[m].envelope);
    }
}

size_t oracle_add_group(struct oracle *o, const char *name)
{
    struct oracle_group *g = &o->groups[o->group_count];
    if (o->group_count == ORACLE_GROUPS) abort();
    *g = (struct oracle_group){.epoch = o->generation, .next = 1, .first = 1};
    snprintf(g->name, sizeof g->name, "%s", name);
    g->policy = peal_group_policy(o->config, peal_span_of(name));
    return o->group_count++;
}

/* ---- what may and must go --------------------------------------------------------------- */

static bool is_settled(const struct oracle_group *g, const struct oracle_message *m)
{
    return g->policy->keep.until == PEAL_UNTIL_READ ? m->read : m->acked;
}

static bool has_expired(const struct oracle *o, const struct oracle_message *m)
{
    return m->expires_ms != 0 && o->now_ms >= m->expires_ms;
}

static bool is_aged(const struct oracle *o, const struct oracle_group *g,
                    const struct oracle_message *m)
{
    return o->now_ms >= add_saturating(m->stored_ms, g->policy->keep.age_ms);
}

static bool is_over(const struct oracle *o, const struct oracle_group *g,
                    const struct oracle_message *m)
{
    return is_settled(g, m) &&
           o->now_ms >= add_saturating(g->last_mark_ms, g->policy->keep.settled_ms);
}

static bool may_go(const struct oracle *o, const struct oracle_group *g, uint64_t offset,
                   bool oldest)
{
    const struct oracle_message *m = message_at(g, offset);
    if (!m->here) return false;
    if (has_expired(o, m) || is_aged(o, g, m)) return true;
    return is_over(o, g, m) && (oldest || o->can & CONTRACT_SETTLED_BEHIND);
}

/* The oldest message that stays when all that is due has gone. */
static uint64_t first_in_the_end(const struct oracle *o, const struct oracle_group *g)
{
    uint64_t offset = g->first;
    while (offset < g->next && (!is_here(g, offset) || may_go(o, g, offset, true)))
        offset++;
    return offset;
}

/* Those behind the oldest: when that one goes, `first` says so. */
static uint64_t unread_that_may_go(const struct oracle *o, const struct oracle_group *g)
{
    uint64_t count = 0;
    for (uint64_t offset = g->first + 1; offset < g->next; offset++) {
        const struct oracle_message *m = message_at(g, offset);
        count += m->here && !m->read && has_expired(o, m);
    }
    return count;
}

bool oracle_due(const struct oracle *o, size_t group)
{
    const struct oracle_group *g = &o->groups[group];
    for (uint64_t offset = g->first; offset < g->next; offset++) {
        if (may_go(o, g, offset, offset == g->first)) return true;
    }
    return false;
}

/* Takes one message away; why it went decides how it will be told. */
static void take(struct oracle *o, struct oracle_group *g, uint64_t offset, bool by_intent)
{
    struct oracle_message *m = message_at(g, offset);
    if (!m->here) return;
    m->here = false;
    if (!m->read) g->rev_max++;
    if (!by_intent && !is_settled(g, m) && !has_expired(o, m)) g->lost_to = offset;
    uint64_t gone = 0;
    while (g->first + gone < g->next && !g->at[gone].here)
        peal_bytes_unref(g->at[gone++].envelope);
    memmove(g->at, g->at + gone, (g->next - g->first - gone) * sizeof *g->at);
    g->first += gone;
}

static void take_below(struct oracle *o, struct oracle_group *g, uint64_t first)
{
    while (g->first < first && g->first < g->next)
        take(o, g, g->first, false);
}

bool oracle_gone(struct oracle *o, size_t group, uint64_t then_ms)
{
    struct oracle_group *g = &o->groups[group];
    uint64_t now_ms = o->now_ms;
    uint64_t unread = 0; /* without those that had expired by then */
    bool gone = true;
    o->now_ms = then_ms;
    for (uint64_t offset = g->first; offset < g->next; offset++) {
        const struct oracle_message *m = message_at(g, offset);
        unread += m->here && !m->read && !has_expired(o, m);
    }
    for (uint64_t offset = g->first; offset < g->next && gone; offset++) {
        if (!may_go(o, g, offset, offset == g->first)) continue;
        gone = offset != g->first && has_expired(o, message_at(g, offset)) &&
               (!is_inbox(g) || g->told_unread <= unread);
        if (gone) take(o, g, offset, true);
    }
    o->now_ms = now_ms;
    return gone;
}

static uint64_t count_unread(const struct oracle_group *g)
{
    uint64_t count = 0;
    if (!is_inbox(g)) return 0;
    for (uint64_t offset = g->first; offset < g->next; offset++)
        count += is_here(g, offset) && !message_at(g, offset)->read;
    return count;
}

static bool over_limits(const struct oracle_group *g, size_t bytes)
{
    uint64_t kept = 0;
    uint64_t sum = bytes;
    for (uint64_t offset = g->first; offset < g->next; offset++) {
        if (!is_here(g, offset)) continue;
        kept++;
        sum += peal_bytes_span(message_at(g, offset)->envelope).size;
    }
    if (g->next - g->first + 1 > PEAL_INBOX_MESSAGES_MAX) return true;
    /* A single one is kept, however large. */
    return kept > 0 && (kept + 1 > g->policy->keep.messages || sum > g->policy->keep.bytes);
}

uint64_t oracle_kept(const struct oracle *o, size_t group)
{
    const struct oracle_group *g = &o->groups[group];
    uint64_t kept = 0;
    for (uint64_t offset = g->first; offset < g->next; offset++)
        kept += is_here(g, offset);
    return kept;
}

bool oracle_is_full(const struct oracle *o, size_t group, size_t bytes)
{
    return over_limits(&o->groups[group], bytes);
}

/* ---- ids -------------------------------------------------------------------------------- */

static const struct oracle_id *find_id(const struct oracle *o, size_t group, struct peal_span id)
{
    for (size_t i = o->id_count; i-- > 0;) {
        if (o->ids[i].group == group && peal_span_is(id, o->ids[i].id)) return &o->ids[i];
    }
    return NULL;
}

enum oracle_known oracle_knows(const struct oracle *o, size_t group, struct peal_span id)
{
    const struct oracle_id *found = find_id(o, group, id);
    if (found == NULL || o->now_ms - found->stored_ms >= o->config->dedup.age_ms) return ORACLE_NEW;
    /* Only the newest must be remembered. */
    size_t newer = o->id_count - 1 - (size_t)(found - o->ids);
    for (size_t i = (size_t)(found - o->ids); i-- > 0 && o->ids[i].stored_ms == found->stored_ms;)
        newer++; /* of the same time: any of them may go first */
    return found->uncertain || newer >= o->config->dedup.ids ? ORACLE_EITHER : ORACLE_DUPLICATE;
}

static void remember_id(struct oracle *o, size_t group, struct peal_span id, uint64_t offset)
{
    /* What is too old or too many is never asked for again. */
    if (o->id_count > 4 * o->config->dedup.ids) {
        size_t gone = o->id_count - 3 * o->config->dedup.ids;
        memmove(o->ids, o->ids + gone, (o->id_count - gone) * sizeof *o->ids);
        o->id_count -= gone;
    }
    if (o->id_count == o->id_room) {
        o->id_room = o->id_room == 0 ? 64 : 2 * o->id_room;
        o->ids = realloc(o->ids, o->id_room * sizeof *o->ids);
        if (o->ids == NULL) abort();
    }
    struct oracle_id *new = &o->ids[o->id_count++];
    *new = (struct oracle_id){
        .group = group, .epoch = o->groups[group].epoch, .offset = offset, .stored_ms = o->now_ms};
    snprintf(new->id, sizeof new->id, "%.*s", (int)id.size, id.at);
}

/* ---- operations ------------------------------------------------------------------------- */

void oracle_head(struct oracle *o, size_t group, struct peal_store_op *expect)
{
    const struct oracle_group *g = &o->groups[group];
    expect->err = PEAL_OK;
    expect->duplicate = expect->changed = false;
    expect->epoch = g->epoch;
    expect->offset = g->next - 1;
    expect->encoded = NULL;
}

/* A newer message of a key stands for the older one, whether that was read or not. */
static void collapse(struct oracle *o, struct oracle_group *g, struct peal_span key)
{
    if (!(o->can & CONTRACT_COLLAPSE) || key.size == 0) return;
    for (uint64_t offset = g->first; offset < g->next; offset++) {
        struct oracle_message *m = message_at(g, offset);
        if (!m->here || !peal_span_is(key, m->collapse)) continue;
        take(o, g, offset, true);
        return; /* there is never more than one */
    }
}

static void append(struct oracle *o, struct oracle_group *g, const struct peal_envelope *env,
                   struct peal_bytes *encoded)
{
    size_t count = (size_t)(g->next - g->first);
    if (count == g->room) {
        g->room = g->room == 0 ? 64 : 2 * g->room;
        g->at = realloc(g->at, g->room * sizeof *g->at);
        if (g->at == NULL) abort();
    }
    struct oracle_message *m = &g->at[count];
    *m = (struct oracle_message){.stored_ms = o->now_ms, .envelope = encoded, .here = true};
    if (env->ttl_ms != 0) m->expires_ms = env->ts_ms + env->ttl_ms;
    snprintf(m->collapse, sizeof m->collapse, "%.*s", (int)env->collapse.size,
             env->collapse.size == 0 ? "" : env->collapse.at);
    g->next++;
    g->rev_min++;
    g->rev_max++;
}

void oracle_put(struct oracle *o, size_t group, const struct peal_envelope *env, bool duplicate,
                struct peal_store_op *expect)
{
    struct oracle_group *g = &o->groups[group];
    bool given = (env->flags & PEAL_MSG_ID_GIVEN) != 0;
    enum oracle_known known = given ? oracle_knows(o, group, env->id) : ORACLE_NEW;
    if (known == ORACLE_DUPLICATE || (known == ORACLE_EITHER && duplicate)) {
        const struct oracle_id *first = find_id(o, group, env->id);
        oracle_head(o, group, expect);
        expect->duplicate = true;
        expect->epoch = first->epoch;
        expect->offset = first->offset;
        return;
    }
    struct peal_envelope numbered = *env;
    struct peal_buf buf = {0};
    numbered.epoch = g->epoch;
    numbered.offset = g->next;
    peal_envelope_encode(&numbered, &buf);
    struct peal_bytes *encoded = peal_bytes_new(buf.at, buf.size);
    if (encoded == NULL) abort();
    collapse(o, g, env->collapse);
    while (over_limits(g, buf.size))
        take(o, g, g->first, false);
    peal_buf_fini(&buf);
    append(o, g, env, encoded);
    if (given) remember_id(o, group, env->id, numbered.offset);
    oracle_head(o, group, expect);
    expect->encoded = encoded;
}

static bool mark(struct oracle_group *g, uint64_t offset, bool read)
{
    if (!is_here(g, offset)) return false;
    struct oracle_message *m = message_at(g, offset);
    bool changed = !m->acked || (read && !m->read);
    m->acked = true;
    m->read |= read;
    return changed;
}

void oracle_mark(struct oracle *o, size_t group, uint64_t flags, uint64_t upto,
                 const uint64_t *offsets, size_t count, struct peal_store_op *expect)
{
    struct oracle_group *g = &o->groups[group];
    bool changed = false;
    bool read = flags & PEAL_FLAG_READ || g->policy->keep.until == PEAL_UNTIL_ACKED;
    if (!is_inbox(g)) {
        *expect = (struct peal_store_op){.err = PEAL_EBAD_GROUP};
        return;
    }
    if (flags & (PEAL_FLAG_ACK | PEAL_FLAG_READ)) {
        if (flags & PEAL_FLAG_ALL) upto = UINT64_MAX;
        for (uint64_t offset = g->first; offset < g->next && offset <= upto; offset++)
            changed |= mark(g, offset, read);
        for (size_t i = 0; i < count; i++)
            changed |= mark(g, offsets[i], read);
    }
    if (changed) {
        g->last_mark_ms = o->now_ms;
        g->rev_min++;
        g->rev_max++;
    }
    oracle_head(o, group, expect);
    expect->changed = changed;
}

void oracle_new_epoch(struct oracle *o, size_t group, uint64_t epoch)
{
    o->groups[group].epoch = epoch;
}

void oracle_drop(struct oracle *o, size_t group)
{
    struct oracle_group *g = &o->groups[group];
    struct oracle_group fresh = {.policy = g->policy,
                                 .epoch = o->generation,
                                 .next = 1,
                                 .first = 1,
                                 .at = g->at,
                                 .room = g->room};
    forget_messages(g);
    memcpy(fresh.name, g->name, sizeof fresh.name);
    *g = fresh;
    size_t kept = 0;
    for (size_t i = 0; i < o->id_count; i++) {
        bool of_group = o->ids[i].group == group;
        if (of_group && o->can & CONTRACT_DROP_IDS) continue;
        o->ids[kept] = o->ids[i];
        if (of_group) o->ids[kept].uncertain = true;
        kept++;
    }
    o->id_count = kept;
}

void oracle_moved(struct oracle *o, size_t group)
{
    const struct oracle_group *g = &o->groups[group];
    if (o->can & CONTRACT_MOVE_OLD_IDS) return;
    for (size_t i = 0; i < o->id_count; i++) {
        if (o->ids[i].group == group && !is_here(g, o->ids[i].offset)) o->ids[i].uncertain = true;
    }
}

/* ---- judging answers -------------------------------------------------------------------- */

static bool differs(struct oracle *o, size_t group, const char *what, uint64_t expected,
                    uint64_t found)
{
    snprintf(o->why, sizeof o->why, "%s: %s is %llu and should be %llu", o->groups[group].name,
             what, (ull)found, (ull)expected);
    return false;
}

static bool outside(struct oracle *o, size_t group, const char *what, uint64_t min, uint64_t max,
                    uint64_t found)
{
    snprintf(o->why, sizeof o->why, "%s: %s is %llu and should be from %llu to %llu",
             o->groups[group].name, what, (ull)found, (ull)min, (ull)max);
    return false;
}

/* The numbers that every answer and every page has. */
static bool agrees_state(struct oracle *o, size_t group, uint64_t first, uint64_t unread,
                         uint64_t rev)
{
    struct oracle_group *g = &o->groups[group];
    uint64_t first_max = first_in_the_end(o, g);
    if (first < g->first || first > first_max)
        return outside(o, group, "first", g->first, first_max, first);
    take_below(o, g, first);
    if (g->first != first) return differs(o, group, "first", g->first, first);
    if (!is_inbox(g))
        return unread == 0 ? true : differs(o, group, "unread of no inbox", 0, unread);

    uint64_t most = count_unread(g);
    uint64_t slack = unread_that_may_go(o, g);
    if (unread > most || unread < most - slack)
        return outside(o, group, "unread", most - slack, most, unread);
    uint64_t rev_max = g->rev_max + (most - unread);
    if (rev < g->rev_min || rev > rev_max)
        return outside(o, group, "rev", g->rev_min, rev_max, rev);
    if (unread != g->told_unread && rev == g->told_rev)
        return differs(o, group, "unread has changed without rev, which", rev + 1, rev);
    /* Removals that are told by unread already and not known one by one count only once. */
    g->rev_min = rev;
    g->rev_max = rev;
    g->told_rev = rev;
    g->told_unread = unread;
    return true;
}

bool oracle_agrees(struct oracle *o, size_t group, const struct peal_store_op *expect,
                   const struct peal_store_op *answer)
{
    if (answer->err != expect->err) return differs(o, group, "err", expect->err, answer->err);
    if (expect->err != PEAL_OK) return true;
    if (answer->duplicate != expect->duplicate)
        return differs(o, group, "duplicate", expect->duplicate, answer->duplicate);
    if (answer->changed != expect->changed)
        return differs(o, group, "changed", expect->changed, answer->changed);
    if (answer->epoch != expect->epoch)
        return differs(o, group, "epoch", expect->epoch, answer->epoch);
    if (answer->offset != expect->offset)
        return differs(o, group, "offset", expect->offset, answer->offset);
    if ((answer->encoded == NULL) != (expect->encoded == NULL))
        return differs(o, group, "whether there is an envelope", expect->encoded != NULL,
                       answer->encoded != NULL);
    if (answer->encoded != NULL &&
        !peal_span_equal(peal_bytes_span(answer->encoded), peal_bytes_span(expect->encoded)))
        return differs(o, group, "the envelope of another message at", expect->offset, 0);
    return agrees_state(o, group, answer->first, answer->unread, answer->rev);
}

/* ---- pages ------------------------------------------------------------------------------ */

/* What has to be in a page, entry by entry; compared while it is made. */
struct reading {
    struct oracle *o;
    size_t group;
    const struct ask *ask;
    const struct peal_frame *page;
    size_t seen; /* entries that were compared */
    enum peal_frame_type run;
    uint64_t why, from, to;
    bool failed;
};

static void page_fails(struct reading *r, const char *expected, uint64_t from, uint64_t to)
{
    if (r->failed) return;
    r->failed = true;
    char found[100] = "nothing";
    struct peal_frame entry;
    if (r->seen < r->page->entries.count &&
        peal_frame_decode(r->page->entries.at[r->seen], &entry) == PEAL_OK) {
        struct peal_envelope env = {0};
        bool message = entry.type == PEAL_F_MESSAGE;
        if (message && peal_envelope_decode(entry.envelope, &env) != PEAL_OK) env.offset = 0;
        snprintf(found, sizeof found, "%s %llu-%llu why %llu flags %llu",
                 message                    ? "message"
                 : entry.type == PEAL_F_GAP ? "gap"
                                            : "skip",
                 (ull)(message ? env.offset : entry.from), (ull)(message ? env.offset : entry.to),
                 (ull)entry.why, (ull)entry.flags);
        peal_frame_fini(&entry);
    }
    snprintf(r->o->why, sizeof r->o->why,
             "%s: page from %llu flags %llu: entry %zu is %s and should be %s %llu-%llu",
             r->o->groups[r->group].name, (ull)r->ask->offset, (ull)r->ask->flags, r->seen, found,
             expected, (ull)from, (ull)to);
}

static void expect_run_ends(struct reading *r)
{
    struct peal_frame entry;
    if (r->run == 0 || r->failed) return;
    const char *word = r->run == PEAL_F_SKIP ? "skip" : peal_gap_word(r->why);
    enum peal_frame_type type = r->run;
    r->run = 0;
    if (r->seen == r->page->entries.count ||
        peal_frame_decode(r->page->entries.at[r->seen], &entry) != PEAL_OK) {
        page_fails(r, word, r->from, r->to);
        return;
    }
    bool same = entry.type == type && entry.why == r->why && entry.from == r->from &&
                entry.to == r->to && peal_span_is(entry.group, r->o->groups[r->group].name);
    peal_frame_fini(&entry);
    if (!same) page_fails(r, word, r->from, r->to);
    r->seen++;
}

static void expect_run(struct reading *r, enum peal_frame_type type, uint64_t why, uint64_t from,
                       uint64_t to)
{
    if (r->run == type && r->why == why && r->to + 1 == from) {
        r->to = to;
        return;
    }
    expect_run_ends(r);
    r->run = type;
    r->why = why;
    r->from = from;
    r->to = to;
}

static void expect_message(struct reading *r, uint64_t offset)
{
    const struct oracle_group *g = &r->o->groups[r->group];
    const struct oracle_message *m = message_at(g, offset);
    struct peal_frame entry;
    expect_run_ends(r);
    if (r->failed) return;
    if (r->seen == r->page->entries.count ||
        peal_frame_decode(r->page->entries.at[r->seen], &entry) != PEAL_OK) {
        page_fails(r, "message", offset, offset);
        return;
    }
    uint64_t flags = (m->acked ? PEAL_FLAG_ACKED : 0u) | (m->read ? PEAL_FLAG_READ : 0u);
    bool same = entry.type == PEAL_F_MESSAGE && entry.flags == flags &&
                peal_span_equal(entry.envelope, peal_bytes_span(m->envelope));
    peal_frame_fini(&entry);
    if (!same) page_fails(r, m->read ? "read message" : "message", offset, offset);
    r->seen++;
}

/* A settled message whose time is over may be there or not: the page decides. */
static void take_what_is_skipped(struct oracle *o, size_t group, const struct peal_frame *page)
{
    struct oracle_group *g = &o->groups[group];
    if (!(o->can & CONTRACT_SETTLED_BEHIND)) return;
    for (size_t i = 0; i < page->entries.count; i++) {
        struct peal_frame entry;
        if (peal_frame_decode(page->entries.at[i], &entry) != PEAL_OK) continue;
        for (uint64_t offset = entry.from;
             entry.type == PEAL_F_SKIP && offset <= entry.to && offset < g->next; offset++) {
            if (is_here(g, offset) && may_go(o, g, offset, false) &&
                is_settled(g, message_at(g, offset)))
                take(o, g, offset, true);
        }
        peal_frame_fini(&entry);
    }
}

static bool is_shown(const struct reading *r, uint64_t offset)
{
    const struct oracle_group *g = &r->o->groups[r->group];
    if (!is_here(g, offset)) return false;
    const struct oracle_message *m = message_at(g, offset);
    if (r->ask->flags & PEAL_FLAG_UNACKED && m->acked) return false;
    if (r->ask->flags & PEAL_FLAG_UNREAD && m->read) return false;
    return !has_expired(r->o, m);
}

struct room {
    uint64_t messages;
    uint64_t bytes;
    bool used;
};

/* The first message always fits. */
static bool fits(struct room *room, const struct oracle_group *g, uint64_t offset)
{
    size_t size = peal_bytes_span(message_at(g, offset)->envelope).size;
    if (room->used && (room->messages == 0 || size > room->bytes)) return false;
    room->used = true;
    room->messages--;
    room->bytes -= size < room->bytes ? size : room->bytes;
    return true;
}

static uint64_t read_forward(struct reading *r, struct room *room)
{
    const struct oracle_group *g = &r->o->groups[r->group];
    bool other = r->ask->epoch != 0 && r->ask->epoch != g->epoch;
    uint64_t from = r->ask->offset + 1;
    if (other || r->ask->offset >= g->next) {
        expect_run(r, PEAL_F_GAP, PEAL_GAP_EPOCH, 1, g->first - 1);
        from = g->first;
    }
    if (from <= g->lost_to && from < g->first) {
        expect_run(r, PEAL_F_GAP, PEAL_GAP_EVICTED, from, g->lost_to);
        from = g->lost_to + 1;
    }
    if (from < g->first) {
        expect_run(r, PEAL_F_SKIP, 0, from, g->first - 1);
        from = g->first;
    }
    for (; from < g->next; from++) {
        if (!is_shown(r, from)) {
            expect_run(r, PEAL_F_SKIP, 0, from, from);
            continue;
        }
        if (!fits(room, g, from)) break;
        expect_message(r, from);
    }
    return from - 1;
}

static uint64_t read_reverse(struct reading *r, struct room *room, bool *more)
{
    const struct oracle_group *g = &r->o->groups[r->group];
    bool other = r->ask->epoch != 0 && r->ask->epoch != g->epoch;
    uint64_t position = other || r->ask->offset == 0 ? g->next : r->ask->offset;
    if (position > g->next) position = g->next;
    for (uint64_t offset = position - 1; offset >= g->first; offset--) {
        if (!is_shown(r, offset)) continue;
        if (!fits(room, g, offset)) {
            *more = true;
            break;
        }
        expect_message(r, offset);
        position = offset;
    }
    return position;
}

static uint64_t clamp(uint64_t wish, uint64_t most)
{
    return wish == 0 || wish > most ? most : wish;
}

bool oracle_agrees_page(struct oracle *o, size_t group, const struct ask *ask,
                        const struct peal_frame *page)
{
    struct oracle_group *g = &o->groups[group];
    if (page->code != PEAL_OK) return differs(o, group, "code of a page", PEAL_OK, page->code);
    if (page->epoch != g->epoch) return differs(o, group, "epoch", g->epoch, page->epoch);
    if (page->head != g->next - 1) return differs(o, group, "head", g->next - 1, page->head);
    take_what_is_skipped(o, group, page);
    if (!agrees_state(o, group, page->first, page->unread, page->rev)) return false;

    struct reading r = {.o = o, .group = group, .ask = ask, .page = page};
    struct room room = {.messages = clamp(ask->limit, PEAL_PAGE_MESSAGES),
                        .bytes = clamp(ask->bytes, PEAL_PAGE_BYTES)};
    bool more = false;
    uint64_t position =
        ask->flags & PEAL_FLAG_REVERSE ? read_reverse(&r, &room, &more) : read_forward(&r, &room);
    expect_run_ends(&r);
    if (!r.failed && r.seen < page->entries.count) page_fails(&r, "the end", 0, 0);
    if (r.failed) return false;
    if (page->offset != position) return differs(o, group, "position", position, page->offset);
    uint64_t flags = more ? PEAL_FLAG_MORE : 0u;
    if (page->flags != flags) return differs(o, group, "flags of a page", flags, page->flags);
    return true;
}
