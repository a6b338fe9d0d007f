#include "router/cargo.h"

#include "proto/envelope.h"
#include "proto/group.h"
#include "proto/parcel.h"
#include "router/shard_state.h"

static enum peal_err close_piece(struct peal_parcel *parcel, uint64_t boot, struct peal_pieces *out)
{
    struct peal_span bytes = peal_parcel_finish(parcel, boot, 0);
    enum peal_err err = peal_pieces_add(out, peal_bytes_new(bytes.at, bytes.size));
    peal_parcel_clear(parcel);
    return err;
}

static enum peal_err collect_frame(struct peal_shard *s, struct peal_parcel *parcel,
                                   const struct peal_frame *frame, struct peal_pieces *out)
{
    enum peal_err err = PEAL_OK;
    if (peal_parcel_full(parcel)) err = close_piece(parcel, s->table.boot, out);
    return err == PEAL_OK ? peal_parcel_add(parcel, frame) : err;
}

static enum peal_err collect_group(struct peal_shard *s, struct peal_group_entry *g,
                                   struct peal_parcel *parcel, struct peal_pieces *out)
{
    struct peal_frame at = {
        .type = PEAL_F_AT, .group = peal_group_entry_name(g), .epoch = g->epoch, .offset = g->head};
    enum peal_err err = collect_frame(s, parcel, &at, out);
    for (uint32_t i = 0; i < peal_group_entry_kept(g) && err == PEAL_OK; i++) {
        struct peal_frame message = {.type = PEAL_F_MESSAGE,
                                     .envelope = peal_bytes_span(peal_history_get(g->history, i))};
        err = collect_frame(s, parcel, &message, out);
    }
    return err;
}

/* A walk over all groups, of which one in a thousand is meant. */
enum peal_err peal_cargo_collect(void *ctx, uint16_t slot, struct peal_pieces *out)
{
    struct peal_shard *s = ctx;
    struct peal_parcel parcel = {0};
    struct peal_map_node *n = NULL;
    enum peal_err err = PEAL_OK;
    while (err == PEAL_OK && (n = peal_map_next(&s->table.groups, n)) != NULL) {
        struct peal_group_entry *g = PEAL_FROM_NODE(n, struct peal_group_entry, node);
        if (!g->policy->durable && peal_group_slot(peal_group_entry_name(g)) == slot)
            err = collect_group(s, g, &parcel, out);
    }
    if (err == PEAL_OK && parcel.count > 0) err = close_piece(&parcel, s->table.boot, out);
    peal_parcel_fini(&parcel);
    return err;
}

static enum peal_err adopt_group(struct peal_shard *s, uint16_t slot, const struct peal_frame *at)
{
    if (peal_name_check(at->group) != PEAL_OK || peal_group_slot(at->group) != slot)
        return PEAL_EBAD_MESSAGE;
    if (peal_group_policy(s->config, at->group)->durable) return PEAL_OK; /* not here */
    struct peal_group_entry *g = peal_table_ensure_group(&s->table, at->group);
    if (g == NULL) return PEAL_ENOMEM;
    g->epoch = at->epoch;
    g->head = at->offset;
    peal_table_rest(&s->table, g);
    return PEAL_OK;
}

/* Its age begins anew. */
static enum peal_err adopt_message(struct peal_shard *s, const struct peal_frame *message)
{
    struct peal_envelope env;
    if (peal_envelope_decode(message->envelope, &env) != PEAL_OK) return PEAL_EBAD_MESSAGE;
    struct peal_group_entry *g = peal_table_find_group(&s->table, env.group);
    if (g == NULL || g->policy->durable) return PEAL_OK;
    if (env.epoch != g->epoch || env.offset > g->head) return PEAL_EBAD_MESSAGE;
    struct peal_bytes *kept = peal_bytes_new(message->envelope.at, message->envelope.size);
    if (kept == NULL) return PEAL_ENOMEM;
    peal_table_keep(&s->table, g, kept);
    peal_bytes_unref(kept);
    if (env.flags & PEAL_MSG_ID_GIVEN)
        peal_dedup_add(&s->dedup, env.group, env.id, s->now_ms, env.epoch, env.offset);
    return PEAL_OK;
}

enum peal_err peal_cargo_adopt(void *ctx, uint16_t slot, struct peal_span piece)
{
    struct peal_shard *s = ctx;
    struct peal_frame batch;
    enum peal_err err = peal_frame_decode(piece, &batch);
    if (err != PEAL_OK) return err;
    for (size_t i = 0; i < batch.entries.count && err == PEAL_OK; i++) {
        struct peal_frame entry;
        err = peal_frame_decode(batch.entries.at[i], &entry);
        if (err != PEAL_OK) break;
        if (entry.type == PEAL_F_AT)
            err = adopt_group(s, slot, &entry);
        else if (entry.type == PEAL_F_MESSAGE)
            err = adopt_message(s, &entry);
        else
            err = PEAL_EBAD_MESSAGE;
        peal_frame_fini(&entry);
    }
    peal_frame_fini(&batch);
    return err;
}
