#include "node/entries.h"

#include "base/log.h"
#include "node/moves.h"
#include "node/uplink_state.h"
#include "node/wants.h"
#include "proto/envelope.h"

enum { AHEAD = 16 }; /* messages whose groups are fetched into the cache at once */

static void on_message(struct peal_uplink *up, size_t link, const struct peal_message_head *head,
                       uint32_t hash, struct peal_span entry)
{
    struct peal_map_node *n = peal_map_find_hashed(&up->links[link].groups, hash, head->group);
    if (n == NULL) {
        peal_wants_tell_leave(up, link, head->group);
        return;
    }
    struct peal_want *want = PEAL_FROM_NODE(n, struct peal_want, node);
    if (want->joined) {
        want->epoch = head->epoch;
        want->offset = head->offset;
    }
    peal_mails_add_frame(&up->mails, want->workers, entry);
}

static void on_position(struct peal_uplink *up, size_t link, const struct peal_frame *f,
                        struct peal_span entry)
{
    struct peal_want *want = peal_wants_find(up, link, f->group);
    if (want == NULL) {
        peal_wants_tell_leave(up, link, f->group);
        return;
    }
    if (f->type == PEAL_F_AT) {
        want->epoch = f->epoch;
        want->offset = f->offset;
    }
    peal_mails_add_frame(&up->mails, want->workers, entry);
}

/* Who is there has changed. Nobody may want to know any more. */
static void on_presence(struct peal_uplink *up, size_t link, const struct peal_frame *f,
                        struct peal_span entry)
{
    struct peal_want *want = peal_wants_find(up, link, f->group);
    if (want != NULL) peal_mails_add_frame(&up->mails, want->workers, entry);
}

/* One that is no message. */
static void on_entry(struct peal_uplink *up, size_t link, struct peal_span entry)
{
    struct peal_frame frame;
    enum peal_err err = peal_frame_decode(entry, &frame);
    if (err != PEAL_OK) {
        peal_log(PEAL_LOG_ERROR, "link.bad_entry", "link=%zu code=%s", link, peal_err_word(err));
        up->links[link].up = false; /* something is missing now: sync on the next beat */
        return;
    }
    if (frame.type == PEAL_F_JOINED)
        peal_wants_on_joined(up, link, &frame, entry);
    else if (frame.type == PEAL_F_AT || frame.type == PEAL_F_STATE)
        on_position(up, link, &frame, entry);
    else if ((frame.type == PEAL_F_PRESENTED || frame.type == PEAL_F_PRESENCE) && frame.req != 0)
        peal_mails_add_answer(&up->mails, frame.req, entry);
    else if (frame.type == PEAL_F_PRESENCE)
        on_presence(up, link, &frame, entry);
    else if (frame.type == PEAL_F_MOVED || frame.type == PEAL_F_SLOTS)
        peal_moves_hear(up, link, &frame);
    else
        peal_log(PEAL_LOG_ERROR, "link.bad_entry", "link=%zu type=%s", link,
                 peal_frame_name(frame.type));
    if (frame.type == PEAL_F_MESSAGE)
        up->links[link].up = false; /* its envelope is bad: likewise */
    peal_frame_fini(&frame);
}

/* Some entries of a batch, at most AHEAD: the groups of all messages among them are fetched into
 * the cache before the first one is looked up. */
static void on_entries(struct peal_uplink *up, size_t link, const struct peal_span *entries,
                       size_t count)
{
    const struct peal_map *groups = &up->links[link].groups;
    struct peal_message_head heads[AHEAD];
    uint32_t hashes[AHEAD];
    uint32_t messages = 0; /* bit per entry */
    for (size_t i = 0; i < count; i++) {
        if (peal_message_peek(entries[i], &heads[i]) != PEAL_OK) continue;
        messages |= 1u << i;
        hashes[i] = peal_map_hash(groups, heads[i].group);
        peal_map_fetch_bucket(groups, hashes[i]);
    }
    for (size_t i = 0; i < count; i++)
        if (messages & 1u << i) peal_map_fetch_node(groups, hashes[i]);
    for (size_t i = 0; i < count; i++) {
        if (messages & 1u << i)
            on_message(up, link, &heads[i], hashes[i], entries[i]);
        else
            on_entry(up, link, entries[i]);
    }
}

void peal_entries_take(struct peal_uplink *up, size_t link, const struct peal_span *entries,
                       size_t count)
{
    for (size_t i = 0; i < count; i += AHEAD) {
        size_t left = count - i;
        on_entries(up, link, &entries[i], left < AHEAD ? left : AHEAD);
    }
}
