/* tests/unit/store_load.h: a random load on a store whose disk is recorded.
 *
 * What is submitted goes to the model at once (`load.now`), because a store works in the order of
 * submission; the journal has a note when an operation is submitted and when it is done. After a
 * cut the judge finds out how many of those under way had happened: a first part in that order.
 *
 * Include it after recorder.h, store_rig.h and store_world.h. */
#ifndef PEAL_TESTS_STORE_LOAD_H
#define PEAL_TESTS_STORE_LOAD_H

enum { ACTIONS_MAX = 160 }; /* of a round */

/* Notes in the journal. */
enum { NOTE_SUBMITTED, NOTE_DONE, NOTE_OPENED, NOTE_CLOCK };

static struct {
    uint64_t seed;
    uint64_t dice;
    struct rig rig;
    struct rec_folders folders;
    struct world base; /* at the begin of the journal */
    struct world now;  /* all that was submitted */
    struct world_action actions[ACTIONS_MAX];
    size_t action_count;
    uint32_t next_number;
} load;

static uint64_t roll(uint64_t sides)
{
    return rec_below(&load.dice, sides);
}

/* ---- load ------------------------------------------------------------------------------- */

static void on_told(const struct peal_store_op *op)
{
    if (op->tag[1] != 1) return;
    load.actions[op->tag[0]].rev = op->rev;
    if (op->err == PEAL_OK) recorder_note(NOTE_DONE, op->tag[0]);
}

static void clock_pass(uint64_t ms)
{
    atomic_fetch_add(&load.rig.now_ms, ms);
    recorder_note(NOTE_CLOCK, atomic_load(&load.rig.now_ms));
}

static void action_roll(struct world_action *action)
{
    uint64_t kind = roll(100);
    *action = (struct world_action){.now_ms = atomic_load(&load.rig.now_ms)};
    if (kind < 4) {
        action->kind = WORLD_SLOTS;
        action->number = load.now.slots + 1;
    } else if (kind < 30) {
        action->kind = WORLD_MARK;
        action->group = (int)roll(WORLD_INBOXES);
        uint64_t newest = load.now.groups[action->group].newest;
        action->flags = roll(2) ? PEAL_FLAG_ACK : PEAL_FLAG_READ;
        if (roll(2)) {
            action->upto = newest - roll(8) % (newest + 1);
        } else {
            for (int i = 0; i < 2; i++)
                action->offsets[i] = 1 + newest - roll(20) % (newest + 1);
        }
    } else if (kind < 40 && load.next_number > 1) {
        /* Perhaps one that was stored, perhaps one that a cut took. */
        uint32_t back = (uint32_t)roll(40) % (load.next_number - 1) + 1;
        action->number = load.next_number - back;
        if (!world_has_id(action->number)) action->number = load.next_number++;
        action->group = world_group_of(action->number);
    } else {
        action->number = load.next_number++;
        action->group = world_group_of(action->number);
    }
}

static void submit_one(void)
{
    struct world_action *action = &load.actions[load.action_count];
    action_roll(action);
    world_apply(&load.now, action, &load.rig);
    struct peal_store_op *op = world_op(&load.rig, action);
    op->tag[0] = load.action_count++;
    op->tag[1] = 1;
    recorder_note(NOTE_SUBMITTED, op->tag[0]);
    rig_submit(&load.rig, op);
}

/* Waits for one; what was done must be what the model says. */
static enum peal_err take_one(void)
{
    struct peal_store_op *op = rig_wait(&load.rig.done);
    const struct world_action *action = &load.actions[op->tag[0]];
    enum peal_err err = op->err;
    if (action->kind == WORLD_PUT && err == PEAL_OK) {
        assert_int_equal(op->duplicate, action->duplicate);
        assert_int_equal(op->offset, action->offset);
        assert_int_equal(op->epoch, load.now.epoch);
    }
    peal_store_op_free(op);
    return err;
}

static void open_store(void)
{
    rig_open(&load.rig);
    load.now.epoch = peal_store_generation(load.rig.store);
    recorder_note(NOTE_OPENED, load.now.epoch);
}

/* An empty folder, and limits by chance. */
static void store_begin(void)
{
    static const uint64_t counts[] = {3, 8, 40, 1000};
    static const uint64_t settled[] = {0, 500, HOUR_MS};
    rec_erase(load.folders.dir);
    rig_init(&load.rig, &contract_local, load.folders.dir);
    load.rig.told = on_told;
    load.rig.groups[0].keep.messages = counts[roll(4)];
    load.rig.groups[0].keep.bytes = roll(3) == 0 ? 20000 : 1 << 20;
    load.rig.groups[0].keep.settled_ms = settled[roll(3)];
    load.rig.groups[0].keep.until = roll(2) ? PEAL_UNTIL_ACKED : PEAL_UNTIL_READ;
    load.rig.groups[1].keep = load.rig.groups[0].keep;
    load.base = (struct world){0};
    load.next_number = 1;
}

/* ---- cuts ------------------------------------------------------------------------------ */

struct cut {
    size_t at;       /* events that have happened */
    uint64_t image;  /* seed */
    uint64_t now_ms; /* at that moment */
    size_t done;     /* actions acknowledged */
    size_t sent;     /* and submitted */
    uint64_t epoch;  /* 0: the first opening had not ended */
};

static struct cut cut_at(size_t at)
{
    struct cut cut = {.at = at, .image = roll(UINT64_MAX), .epoch = load.base.epoch};
    for (size_t i = 0; i < at; i++) {
        const struct rec_event *event = &rec.events[i];
        if (event->kind != REC_NOTE) continue;
        if (event->at == NOTE_CLOCK) cut.now_ms = event->size;
        if (event->at == NOTE_OPENED) cut.epoch = event->size;
        if (event->at == NOTE_DONE) cut.done = event->size + 1;
        if (event->at == NOTE_SUBMITTED) cut.sent = event->size + 1;
    }
    return cut;
}

static void apply_done(struct world *world, struct world_action *action)
{
    uint64_t *rev = &world->groups[action->group].rev;
    world_apply(world, action, &load.rig);
    if (action->kind != WORLD_SLOTS && action->rev > *rev) *rev = action->rev;
}

/* Which part of what was under way has survived? The worlds of two parts can look the same, and
 * then the first will do. SIZE_MAX, and why is printed: none. */
static size_t find_survivors(struct world *world, const struct cut *cut, const struct seen *seen)
{
    char why[200];
    char first[200] = "";
    for (size_t i = 0; i < cut->done; i++)
        apply_done(world, &load.actions[i]);
    for (size_t kept = cut->done;; kept++) {
        if (judge(world, seen, &load.rig, why, sizeof why)) return kept;
        if (kept == cut->done) snprintf(first, sizeof first, "%s", why);
        if (kept == cut->sent) break;
        world_apply(world, &load.actions[kept], &load.rig);
    }
    fprintf(stderr, "with what was acknowledged: %s\nwith all that was sent: %s\n", first, why);
    return SIZE_MAX;
}

#endif
