#include "tests/model/checker.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

typedef unsigned long long llu;

void checker_init(struct checker *c)
{
    *c = (struct checker){0};
}

void checker_fini(struct checker *c)
{
    for (size_t g = 0; g < c->group_count; g++) {
        for (size_t s = 0; s < c->groups[g].stream_count; s++) {
            free(c->groups[g].streams[s].places);
            free(c->groups[g].streams[s].unread);
        }
        free(c->groups[g].streams);
    }
    free(c->values);
    *c = (struct checker){0};
}

int checker_add_group(struct checker *c, const char *name, enum checker_kind kind)
{
    PEAL_ASSERT(c->group_count < CHECKER_GROUPS);
    c->groups[c->group_count] = (struct checker_group){.name = name, .kind = kind};
    return (int)c->group_count++;
}

void checker_fail(struct checker *c, const char *format, ...)
{
    va_list args;
    if (c->failed) return;
    c->failed = true;
    va_start(args, format);
    vsnprintf(c->why, sizeof c->why, format, args);
    va_end(args);
}

/* ---- tables -------------------------------------------------------------------------------- */

/* An array of zeroed elements that has element i. */
static void *reach(void *at, size_t *size, size_t i, size_t each)
{
    if (i < *size) return at;
    size_t more = *size == 0 ? 64 : *size * 2;
    while (more <= i)
        more *= 2;
    char *grown = realloc(at, more * each);
    PEAL_ASSERT(grown != NULL);
    memset(grown + *size * each, 0, (more - *size) * each);
    *size = more;
    return grown;
}

static struct checker_stream *stream_of(struct checker *c, int group, uint64_t epoch)
{
    struct checker_group *g = &c->groups[group];
    for (size_t i = g->stream_count; i > 0; i--) /* most often the last one */
        if (g->streams[i - 1].epoch == epoch) return &g->streams[i - 1];
    g->streams = realloc(g->streams, (g->stream_count + 1) * sizeof *g->streams);
    PEAL_ASSERT(g->streams != NULL);
    g->streams[g->stream_count] = (struct checker_stream){.epoch = epoch};
    return &g->streams[g->stream_count++];
}

static struct checker_place *place_of(struct checker *c, int group, uint64_t epoch, uint64_t offset)
{
    struct checker_stream *s = stream_of(c, group, epoch);
    s->places = reach(s->places, &s->size, offset, sizeof *s->places);
    return &s->places[offset];
}

static struct checker_value *value_of(struct checker *c, uint64_t value)
{
    size_t before = c->value_size;
    c->values = reach(c->values, &c->value_size, value, sizeof *c->values);
    for (size_t i = before; i < c->value_size; i++)
        c->values[i].group = -1;
    return &c->values[value];
}

/* Somebody was told that value is at this position. */
static void note(struct checker *c, int group, uint64_t epoch, uint64_t offset, uint64_t value)
{
    const struct checker_group *g = &c->groups[group];
    struct checker_value *v = value_of(c, value);
    struct checker_place *place = place_of(c, group, epoch, offset);
    if (v->group != group) {
        checker_fail(c, "%s %llx/%llu is %llu, which was never published there", g->name,
                     (llu)epoch, (llu)offset, (llu)value);
    } else if (place->value != 0 && place->value != value) {
        checker_fail(c, "%s %llx/%llu is %llu for one and %llu for another", g->name, (llu)epoch,
                     (llu)offset, (llu)place->value, (llu)value);
    } else if (v->offset != 0 && (v->epoch != epoch || v->offset != offset) &&
               (v->epoch == epoch || g->kind == CHECKER_STORED) && !g->restored) {
        checker_fail(c, "%s: %llu is at %llx/%llu and again at %llx/%llu", g->name, (llu)value,
                     (llu)v->epoch, (llu)v->offset, (llu)epoch, (llu)offset);
    }
    place->value = value;
    v->epoch = epoch;
    v->offset = offset;
}

/* ---- publishers ---------------------------------------------------------------------------- */

void checker_on_publish(struct checker *c, int group, uint32_t publisher, uint64_t value)
{
    struct checker_value *v = value_of(c, value);
    c->tick++;
    if (v->group >= 0) { /* a retry */
        PEAL_ASSERT(v->group == group && v->publisher == publisher);
        return;
    }
    *v = (struct checker_value){.group = group, .publisher = publisher, .begun = c->tick};
}

void checker_on_ack(struct checker *c, int group, uint64_t value, uint64_t epoch, uint64_t offset,
                    bool stored)
{
    const struct checker_group *g = &c->groups[group];
    c->tick++;
    if (stored != (g->kind == CHECKER_STORED)) {
        checker_fail(c, "%s: %llu is acknowledged as %s", g->name, (llu)value,
                     stored ? "stored" : "routed");
        return;
    }
    note(c, group, epoch, offset, value);
    place_of(c, group, epoch, offset)->acked = stored;
    for (int i = 0; i < CHECKER_CLIENTS; i++) {
        const struct checker_member *m = &c->members[i][group];
        bool after = m->member && m->joined != 0 && m->joined < c->values[value].begun;
        if (after && m->joined_epoch == epoch && offset <= m->joined_offset)
            checker_fail(c,
                         "%s: %llu was published after client %d had joined at %llx/%llu, and is "
                         "at %llu",
                         g->name, (llu)value, i, (llu)epoch, (llu)m->joined_offset, (llu)offset);
    }
}

/* ---- clients ------------------------------------------------------------------------------- */

void checker_on_joined(struct checker *c, int client, int group, uint64_t epoch, uint64_t offset,
                       enum checker_recovered recovered)
{
    struct checker_member *m = &c->members[client][group];
    const char *name = c->groups[group].name;
    c->tick++;
    m->member = true;
    if (recovered == CHECKER_FULL && (!m->known || m->epoch != epoch || m->offset != offset))
        checker_fail(c, "client %d resumed %s at %llx/%llu, and was at %llx/%llu", client, name,
                     (llu)epoch, (llu)offset, (llu)m->epoch, (llu)m->offset);
    if (recovered == CHECKER_GAP) return; /* the gap itself follows */
    m->known = true;
    m->epoch = m->joined_epoch = epoch;
    m->offset = m->joined_offset = offset;
    m->joined = c->tick;
}

void checker_on_left(struct checker *c, int client, int group)
{
    c->tick++;
    c->members[client][group] = (struct checker_member){0};
}

void checker_on_message(struct checker *c, int client, int group, uint64_t offset, uint64_t value)
{
    struct checker_member *m = &c->members[client][group];
    const char *name = c->groups[group].name;
    c->tick++;
    c->messages++;
    if (!m->known || offset != m->offset + 1) {
        checker_fail(c, "client %d got %s %llu after %llx/%llu%s", client, name, (llu)offset,
                     (llu)m->epoch, (llu)m->offset, m->known ? "" : " (never joined)");
        return;
    }
    m->offset = offset;
    note(c, group, m->epoch, offset, value);
}

void checker_on_gap(struct checker *c, int client, int group, uint64_t epoch, uint64_t from,
                    uint64_t to)
{
    struct checker_member *m = &c->members[client][group];
    const struct checker_group *g = &c->groups[group];
    bool same = m->known && m->epoch == epoch;
    c->tick++;
    c->gaps++;
    if (g->kind == CHECKER_STORED && (same || !stream_of(c, group, epoch)->restored))
        checker_fail(c, "client %d got a gap in %s: %llx/%llu..%llu after %llx/%llu", client,
                     g->name, (llu)epoch, (llu)from, (llu)to, (llu)m->epoch, (llu)m->offset);
    /* Within an epoch a gap leads on, it never goes back over what was told already. */
    if (same && (to <= m->offset || from > m->offset + 1))
        checker_fail(c, "client %d got a gap in %s: %llu..%llu after %llx/%llu", client, g->name,
                     (llu)from, (llu)to, (llu)m->epoch, (llu)m->offset);
    if (!m->known) checker_fail(c, "client %d got a gap in %s and never joined", client, g->name);
    if (!same) m->joined = 0;
    m->epoch = epoch;
    m->offset = to;
}

void checker_on_skip(struct checker *c, int client, int group, uint64_t from, uint64_t to)
{
    struct checker_member *m = &c->members[client][group];
    const char *name = c->groups[group].name;
    c->tick++;
    c->skips++;
    if (!m->known || from != m->offset + 1 || to < from) {
        checker_fail(c, "client %d got a skip in %s: %llu..%llu after %llx/%llu", client, name,
                     (llu)from, (llu)to, (llu)m->epoch, (llu)m->offset);
        return;
    }
    for (uint64_t offset = from; offset <= to; offset++)
        if (!place_of(c, group, m->epoch, offset)->settled)
            checker_fail(c, "client %d got a skip in %s: %llx/%llu, which was not settled", client,
                         name, (llu)m->epoch, (llu)offset);
    m->offset = to;
}

void checker_on_unread(struct checker *c, int client, int group, uint64_t unread, uint64_t rev)
{
    struct checker_member *m = &c->members[client][group];
    c->tick++;
    bool restored = c->groups[group].restored; /* revs begin anew, and do not say of which epoch */
    if (rev < m->rev && !restored) return;     /* what came before is newer: it is ignored */
    m->rev = rev;
    m->unread = unread;
    if (!m->known || restored) return;
    struct checker_stream *s = stream_of(c, group, m->epoch);
    s->unread = reach(s->unread, &s->unread_size, rev, sizeof *s->unread);
    if (s->unread[rev] != 0 && s->unread[rev] != unread + 1)
        checker_fail(c, "%s: at rev %llu %llu are unread for one and %llu for another",
                     c->groups[group].name, (llu)rev, (llu)(s->unread[rev] - 1), (llu)unread);
    s->unread[rev] = unread + 1;
}

const struct checker_member *checker_member(const struct checker *c, int client, int group)
{
    return &c->members[client][group];
}

/* ---- the disk ------------------------------------------------------------------------------ */

void checker_on_settled(struct checker *c, int group, uint64_t epoch, uint64_t offset)
{
    place_of(c, group, epoch, offset)->settled = true;
}

void checker_on_restored(struct checker *c, int group, uint64_t epoch)
{
    c->tick++;
    c->groups[group].restored = true;
    stream_of(c, group, epoch)->restored = true;
}

/* ---- the end ------------------------------------------------------------------------------- */

void checker_on_kept(struct checker *c, int group, uint64_t epoch, uint64_t offset, uint64_t value)
{
    note(c, group, epoch, offset, value);
    place_of(c, group, epoch, offset)->kept = true;
}

static void check_order(struct checker *c, int group, const struct checker_stream *s)
{
    uint64_t *last = NULL; /* by publisher */
    size_t size = 0;
    for (size_t offset = 1; offset < s->size; offset++) {
        uint64_t value = s->places[offset].value;
        if (value == 0) continue;
        uint32_t publisher = c->values[value].publisher;
        last = reach(last, &size, publisher, sizeof *last);
        if (value < last[publisher])
            checker_fail(c, "%s %llx/%llu: %llu of publisher %u comes after %llu",
                         c->groups[group].name, (llu)s->epoch, (llu)offset, (llu)value, publisher,
                         (llu)last[publisher]);
        last[publisher] = value;
    }
    free(last);
}

void checker_at_end(struct checker *c, int group, uint64_t epoch, uint64_t head)
{
    struct checker_group *g = &c->groups[group];
    for (int i = 0; i < CHECKER_CLIENTS; i++) {
        const struct checker_member *m = &c->members[i][group];
        if (m->member && (!m->known || m->epoch != epoch || m->offset != head))
            checker_fail(c, "client %d is at %llx/%llu of %s in the end, the group at %llx/%llu", i,
                         (llu)m->epoch, (llu)m->offset, g->name, (llu)epoch, (llu)head);
    }
    for (size_t s = 0; s < g->stream_count; s++)
        check_order(c, group, &g->streams[s]);
    if (g->kind != CHECKER_STORED) return;
    for (size_t s = 0; s < g->stream_count; s++) {
        const struct checker_stream *stream = &g->streams[s];
        /* A restore has lost what came after the copy, and said so by its new epoch. */
        if (stream->epoch != epoch && g->restored) continue;
        for (size_t offset = 1; offset < stream->size; offset++)
            if (stream->places[offset].acked && !stream->places[offset].kept)
                checker_fail(c, "%s %llx/%llu: %llu was acknowledged as stored, and is gone",
                             g->name, (llu)stream->epoch, (llu)offset,
                             (llu)stream->places[offset].value);
    }
}

void checker_at_end_unread(struct checker *c, int group, uint64_t epoch, uint64_t unread)
{
    for (int i = 0; i < CHECKER_CLIENTS; i++) {
        const struct checker_member *m = &c->members[i][group];
        if (m->member && m->epoch == epoch && m->unread != unread)
            checker_fail(c, "client %d knows of %llu unread in %s, there are %llu", i,
                         (llu)m->unread, c->groups[group].name, (llu)unread);
    }
}
