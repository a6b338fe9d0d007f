/* tests/unit/store_world.h: what a store has to hold, and a judge of what it says.
 *
 * A world is a plain model of some groups: what was done, in the order of submission. Whatever
 * follows from the number of a message (group, payload, id, TTL) is not kept but made again. The
 * judge compares with what a store says through storage/store.h, and knows the rules by which
 * messages may be gone (docs/PROTOCOL.md, "Delivered, read, unread"), but not when the store
 * applies them, nor how it keeps anything.
 *
 * Include it after store_rig.h. */
#ifndef PEAL_TESTS_STORE_WORLD_H
#define PEAL_TESTS_STORE_WORLD_H

enum {
    WORLD_GROUPS = 6,
    WORLD_INBOXES = 4, /* the first ones; the others are kept history without marks */
    WORLD_NUMBERS = 1600,
    WORLD_OFFSETS = 800,
    WORLD_DATA_MAX = 24000,
    WORLD_OVERHEAD = 300, /* an envelope is larger than its payload, by at most this */
};

struct world_message {
    uint32_t number; /* 0: no message */
    bool delivered, read;
    uint64_t expires_ms; /* 0: never */
    uint64_t mark_ms;    /* of the mark that settled it */
};

struct world_group {
    uint64_t newest;
    uint64_t rev; /* as told last */
    struct world_message at[WORLD_OFFSETS];
};

struct world {
    uint64_t epoch; /* of all groups: the store's generation; 0 = not opened yet */
    struct world_group groups[WORLD_GROUPS];
    uint16_t offset_of[WORLD_NUMBERS]; /* 0: not stored */
    uint32_t slots;                    /* what the record of slots says; 0: nothing yet */
};

enum world_kind { WORLD_PUT, WORLD_MARK, WORLD_SLOTS };

/* One operation, and what has to come of it. */
struct world_action {
    enum world_kind kind;
    uint32_t number; /* PUT: of the message; SLOTS: the record */
    int group;
    uint64_t now_ms; /* at submission */
    uint64_t flags, upto, offsets[2];
    bool duplicate;
    uint64_t offset;
    uint64_t rev; /* as it was told when it was done */
};

/* ---- messages --------------------------------------------------------------------------- */

static inline int world_group_of(uint32_t number)
{
    return (int)(number % WORLD_GROUPS);
}

static inline void world_group_name(int group, char out[16])
{
    snprintf(out, 16, "%s:%d", group < WORLD_INBOXES ? "user" : "room", group);
}

/* A plain hash, for what follows from a number. */
static inline uint32_t world_hash(uint32_t number)
{
    uint32_t h = number * 2654435761u;
    return h ^ (h >> 15);
}

static inline bool world_has_id(uint32_t number)
{
    return world_hash(number) % 3 != 0;
}

static inline uint64_t world_ttl_ms(uint32_t number)
{
    return world_hash(number) % 11 == 0 ? 500 + world_hash(number) % 3000 : 0;
}

/* Most are small; some do not fit into a page of a database, a few need several. */
static inline size_t world_data_size(uint32_t number)
{
    uint32_t h = world_hash(number);
    if (h % 16 == 1) return 1000 + h / 64 % 3000;
    if (h % 64 == 2) return 8000 + h / 64 % 12000;
    return 20 + h / 64 % 100;
}

static inline size_t world_data(uint32_t number, char out[WORLD_DATA_MAX])
{
    size_t size = world_data_size(number);
    int head = snprintf(out, WORLD_DATA_MAX, "number %u ", number);
    for (size_t i = (size_t)head; i < size; i++)
        out[i] = (char)('a' + (world_hash(number) + i * i) % 26);
    return size;
}

static inline bool world_data_is(uint32_t number, struct peal_span data)
{
    char expected[WORLD_DATA_MAX];
    size_t size = world_data(number, expected);
    return peal_span_equal(data, peal_span_make(expected, size));
}

static inline struct peal_store_op *world_op(struct rig *rig, const struct world_action *action)
{
    char name[16];
    char text[WORLD_DATA_MAX];
    world_group_name(action->group, name);
    if (action->kind == WORLD_PUT) {
        char id[16];
        size_t size = world_data(action->number, text);
        snprintf(id, sizeof id, "id-%u", action->number);
        return rig_put_op(rig, &(struct message){name, world_has_id(action->number) ? id : NULL,
                                                 text, size, world_ttl_ms(action->number)});
    }
    if (action->kind == WORLD_MARK) {
        size_t count = action->offsets[0] == 0 ? 0 : 2;
        return rig_mark_op(rig, name, action->flags, action->upto, action->offsets, count);
    }
    int size = snprintf(text, sizeof text, "slots %u", action->number);
    struct peal_store_op *op = peal_store_op_new(PEAL_STORE_SLOTS, peal_span_of(""),
                                                 peal_span_make(text, (size_t)size), NULL, 0);
    assert_non_null(op);
    op->policy = &rig->groups[1];
    return op;
}

/* ---- what operations do ----------------------------------------------------------------- */

static inline void world_mark_one(struct world_group *group, const struct world_action *action,
                                  uint64_t offset, bool read)
{
    if (offset == 0 || offset > group->newest) return;
    struct world_message *message = &group->at[offset];
    if (!message->delivered || (read && !message->read)) message->mark_ms = action->now_ms;
    message->delivered = true;
    if (read) message->read = true;
}

static inline void world_mark(struct world_group *group, const struct world_action *action,
                              const struct rig *rig)
{
    bool read = action->flags & PEAL_FLAG_READ || rig->groups[0].keep.until == PEAL_UNTIL_ACKED;
    for (uint64_t offset = 1; offset <= action->upto && offset <= group->newest; offset++)
        world_mark_one(group, action, offset, read);
    for (int i = 0; i < 2; i++)
        world_mark_one(group, action, action->offsets[i], read);
}

/* Applies action and fills in what has to come of it. */
static inline void world_apply(struct world *world, struct world_action *action,
                               const struct rig *rig)
{
    struct world_group *group = &world->groups[action->group];
    if (action->kind == WORLD_MARK) world_mark(group, action, rig);
    if (action->kind == WORLD_SLOTS) world->slots = action->number;
    if (action->kind != WORLD_PUT) return;

    uint16_t *offset = &world->offset_of[action->number];
    action->duplicate = world_has_id(action->number) && *offset != 0;
    if (!action->duplicate) {
        uint64_t ttl_ms = world_ttl_ms(action->number);
        *offset = (uint16_t)++group->newest;
        if (group->newest >= WORLD_OFFSETS) fail_msg("the world is too small");
        group->at[group->newest] = (struct world_message){
            .number = action->number, .expires_ms = ttl_ms == 0 ? 0 : action->now_ms + ttl_ms};
    }
    action->offset = *offset;
}

/* ---- what a store says ------------------------------------------------------------------ */

enum seen_kind { SEEN_NOTHING, SEEN_MESSAGE, SEEN_OTHER_DATA, SEEN_SKIP, SEEN_EVICTED, SEEN_GAP };

struct seen_group {
    enum peal_err err;
    uint64_t epoch, newest, first, rev, unread; /* as HEAD says */
    uint64_t counted;                           /* messages without a read mark */
    bool counts_differ;
    struct {
        enum seen_kind kind;
        uint32_t number;
        bool delivered, read;
    } at[WORLD_OFFSETS];
};

struct seen {
    uint64_t epoch;
    char slots[32];
    struct seen_group groups[WORLD_GROUPS];
};

static inline void seen_message(struct seen_group *group, const struct peal_frame *entry)
{
    struct peal_envelope env;
    unsigned number = 0;
    char text[24] = "";
    assert_int_equal(peal_envelope_decode(entry->envelope, &env), PEAL_OK);
    assert_true(env.offset > 0 && env.offset < WORLD_OFFSETS);
    memcpy(text, env.data.at, env.data.size < sizeof text ? env.data.size : sizeof text - 1);
    bool mine = sscanf(text, "number %u ", &number) == 1 && number < WORLD_NUMBERS &&
                world_data_is(number, env.data);
    group->at[env.offset].kind = mine ? SEEN_MESSAGE : SEEN_OTHER_DATA;
    group->at[env.offset].number = number;
    group->at[env.offset].delivered = entry->flags & PEAL_FLAG_ACKED;
    group->at[env.offset].read = entry->flags & PEAL_FLAG_READ;
    if (!(entry->flags & PEAL_FLAG_READ)) group->counted++;
}

static inline void seen_page(struct seen_group *group, const struct page *page)
{
    for (size_t i = 0; i < page->frame.entries.count; i++) {
        struct peal_frame entry;
        assert_int_equal(peal_frame_decode(page->frame.entries.at[i], &entry), PEAL_OK);
        if (entry.type == PEAL_F_MESSAGE) {
            seen_message(group, &entry);
        } else {
            enum seen_kind kind = SEEN_SKIP;
            if (entry.type == PEAL_F_GAP)
                kind = entry.why == PEAL_GAP_EVICTED ? SEEN_EVICTED : SEEN_GAP;
            for (uint64_t o = entry.from; o <= entry.to && o < WORLD_OFFSETS; o++)
                group->at[o].kind = kind;
        }
        peal_frame_fini(&entry);
    }
}

/* Everything of one group, from its begin on. */
static inline void seen_read_group(struct rig *rig, int number, struct seen_group *group)
{
    char name[16];
    struct page page;
    uint64_t position = 0;
    *group = (struct seen_group){0};
    world_group_name(number, name);
    struct peal_store_op head = rig_head(rig, name);
    group->err = head.err;
    group->epoch = head.epoch;
    group->newest = head.offset;
    group->first = head.first;
    group->rev = head.rev;
    group->unread = head.unread;
    if (group->err != PEAL_OK) return;
    do {
        rig_page(rig, &(struct ask){name, group->epoch, position, 0, 0, 0}, &page);
        if (page.frame.code != PEAL_OK) {
            group->err = (enum peal_err)page.frame.code;
            page_free(&page);
            return;
        }
        seen_page(group, &page);
        if (page.frame.unread != group->unread || page.frame.rev != group->rev ||
            page.frame.first != group->first || page.frame.head != group->newest)
            group->counts_differ = true;
        assert_true(page.frame.offset > position || page.frame.offset >= page.frame.head);
        position = page.frame.offset;
        page_free(&page);
    } while (position < group->newest);
}

/* Do the store's counts agree with each other? */
static inline bool seen_agrees(const struct seen_group *group, int number)
{
    if (group->err != PEAL_OK) return true;
    return !group->counts_differ && (number >= WORLD_INBOXES || group->counted == group->unread);
}

/* Everything of all groups. A sweep that is due changes counts: it is given time to happen, until
 * they agree or it was tried so often. */
static inline void seen_read(struct rig *rig, struct seen *seen, int tries_max)
{
    struct peal_span slots = peal_store_slots(rig->store);
    seen->epoch = peal_store_generation(rig->store);
    snprintf(seen->slots, sizeof seen->slots, "%.*s", (int)slots.size, slots.at);
    bool agree = false;
    for (int tries = 0; tries < tries_max && !agree; tries++) {
        rig_pass(rig, 1000);
        agree = true;
        for (int i = 0; i < WORLD_GROUPS; i++) {
            struct seen_group *group = &seen->groups[i];
            if (tries > 0 && seen_agrees(group, i)) continue;
            seen_read_group(rig, i, group);
            agree = agree && seen_agrees(group, i);
        }
    }
}

/* ---- the judge -------------------------------------------------------------------------- */

/* Has a limit of keep taken it, or may it have? */
static inline bool judge_over_limits(const struct world_group *group, uint64_t offset,
                                     const struct rig *rig)
{
    const struct peal_config_group *policy = &rig->groups[0];
    uint64_t bytes = 0;
    if (group->newest - offset >= policy->keep.messages) return true;
    for (uint64_t o = offset; o <= group->newest; o++)
        bytes += world_data_size(group->at[o].number) + WORLD_OVERHEAD;
    return offset < group->newest && bytes > policy->keep.bytes;
}

/* May the message at offset be gone, told like this? */
static inline bool judge_may_be_gone(const struct world_group *group, int number, uint64_t offset,
                                     enum seen_kind told, const struct rig *rig)
{
    const struct world_message *message = &group->at[offset];
    const struct peal_config_group *policy = &rig->groups[0];
    uint64_t now_ms = atomic_load(&rig->now_ms);
    bool settled = number < WORLD_INBOXES &&
                   (policy->keep.until == PEAL_UNTIL_READ ? message->read : message->delivered);
    if (message->expires_ms != 0 && now_ms >= message->expires_ms) return true;
    if (settled && now_ms >= message->mark_ms + policy->keep.settled_ms) return true;
    if (!judge_over_limits(group, offset, rig)) return false;
    return settled || told == SEEN_EVICTED;
}

static inline bool judge_message(const struct world_group *group, int number, uint64_t offset,
                                 const struct seen_group *seen, const struct rig *rig, char *why,
                                 size_t why_size)
{
    const struct world_message *message = &group->at[offset];
    enum seen_kind kind = seen->at[offset].kind;
    const char *what = NULL;
    bool inbox = number < WORLD_INBOXES;
    if (kind == SEEN_OTHER_DATA)
        what = "has another payload";
    else if (kind == SEEN_GAP)
        what = "is told as a gap, not an evicted one";
    else if (kind == SEEN_NOTHING)
        what = "is not told at all";
    else if (kind == SEEN_MESSAGE && seen->at[offset].number != message->number)
        what = "is another message";
    else if (kind == SEEN_MESSAGE && inbox && seen->at[offset].delivered != message->delivered)
        what = "has another ack mark";
    else if (kind == SEEN_MESSAGE && inbox && seen->at[offset].read != message->read)
        what = "has another read mark";
    else if (kind != SEEN_MESSAGE && !judge_may_be_gone(group, number, offset, kind, rig))
        what = "is gone, and no rule took it";
    if (what == NULL) return true;
    snprintf(why, why_size, "group %d: offset %llu (number %u) %s", number,
             (unsigned long long)offset, message->number, what);
    return false;
}

/* Does the store hold this world? Otherwise why says what differs. */
static inline bool judge(const struct world *world, const struct seen *seen, const struct rig *rig,
                         char *why, size_t why_size)
{
    char slots[32] = "";
    if (world->slots != 0) snprintf(slots, sizeof slots, "slots %u", world->slots);
    if (strcmp(slots, seen->slots) != 0) {
        snprintf(why, why_size, "the record of slots is '%s' and not '%s'", seen->slots, slots);
        return false;
    }
    if (world->epoch != 0 && world->epoch != seen->epoch) {
        snprintf(why, why_size, "the store has another generation");
        return false;
    }
    for (int i = 0; i < WORLD_GROUPS; i++) {
        const struct world_group *group = &world->groups[i];
        const struct seen_group *have = &seen->groups[i];
        const char *what = NULL;
        if (have->err != PEAL_OK)
            what = "cannot be read";
        else if (have->epoch != seen->epoch)
            what = "has another epoch";
        else if (have->newest != group->newest)
            what = "has another newest offset";
        else if (have->rev < group->rev)
            what = "has a rev that was there before";
        else if (have->counts_differ)
            what = "says other numbers in pages than in heads";
        else if (i < WORLD_INBOXES && have->counted != have->unread)
            what = "says another unread than a recount";
        if (what != NULL) {
            snprintf(why, why_size, "group %d %s: newest %llu/%llu rev %llu/%llu unread %llu/%llu",
                     i, what, (unsigned long long)have->newest, (unsigned long long)group->newest,
                     (unsigned long long)have->rev, (unsigned long long)group->rev,
                     (unsigned long long)have->unread, (unsigned long long)have->counted);
            return false;
        }
        for (uint64_t offset = 1; offset <= group->newest; offset++) {
            if (!judge_message(group, i, offset, have, rig, why, why_size)) return false;
        }
    }
    return true;
}

#endif
