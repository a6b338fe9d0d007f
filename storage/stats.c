#include "storage/stats.h"

#include "proto/group.h"

struct count {
    struct peal_survey *survey;
    struct peal_stats *stats;
};

static void file_read(struct peal_txn *txn, struct peal_stats_file *out)
{
    out->bytes_file = peal_txn_bytes_file(txn);
    out->bytes_used = peal_txn_bytes_used(txn);
    out->bytes_free = peal_txn_bytes_free(txn);
}

/* The newest message of a group in the inbox. */
static void newest_count(struct count *count, const struct peal_survey_group *group)
{
    char at[PEAL_KEY_MESSAGE];
    struct peal_span key = {at, sizeof at};
    struct peal_span value;
    struct peal_record record;
    const struct peal_numbers *n = &group->inbox->n;
    peal_key_message(at, group->slot, n->gid, n->next - 1);
    if (peal_txn_get(&count->survey->inbox, PEAL_TREE_MESSAGE, key, &value) != PEAL_OK) return;
    if (peal_record_decode(key, value, &record) != PEAL_OK) return;
    if (record.stored_ms > count->stats->newest_ms) count->stats->newest_ms = record.stored_ms;
}

static enum peal_err group_count(void *ctx, const struct peal_survey_group *group)
{
    struct count *count = ctx;
    struct peal_stats *stats = count->stats;
    stats->heads++;
    if (group->inbox == NULL) {
        stats->heads_damaged++;
        return PEAL_OK;
    }
    const struct peal_numbers *n = &group->inbox->n;
    stats->messages += n->kept;
    stats->bytes += n->bytes;
    if (peal_group_is_inbox(group->name)) stats->unread += peal_inbox_unread(group->inbox);
    if (n->kept == 0) return PEAL_OK;
    if (stats->oldest_ms == 0 || n->oldest_ms < stats->oldest_ms) stats->oldest_ms = n->oldest_ms;
    newest_count(count, group);
    return PEAL_OK;
}

/* Messages that only the log has: of a group the last that came is the newest. */
static enum peal_err log_count(struct count *count)
{
    char at[PEAL_KEY_ENTRY];
    struct peal_span key = {at, sizeof at};
    struct peal_span value;
    struct peal_entry entry;
    struct peal_gather *gather = &count->survey->gather;
    for (size_t i = 0; i < gather->group_count; i++) {
        const struct peal_gathered *group = gather->groups[i];
        if (group->place_count == 0) continue;
        peal_key_entry(at, group->places[group->place_count - 1].seq);
        enum peal_err err = peal_txn_get(&count->survey->log, PEAL_TREE_LOG, key, &value);
        if (err == PEAL_OK) err = peal_entry_decode(key, value, &gather->room, &entry);
        if (err == PEAL_ECORRUPT || err == PEAL_ENOT_FOUND) continue;
        if (err != PEAL_OK) return err;
        if (entry.offset < group->inbox.n.first) continue;
        if (entry.stored_ms > count->stats->newest_ms) count->stats->newest_ms = entry.stored_ms;
    }
    return PEAL_OK;
}

enum peal_err peal_stats_read(struct peal_survey *survey, struct peal_stats *out)
{
    struct count count = {survey, out};
    *out = (struct peal_stats){.generation = survey->generation};
    file_read(&survey->log, &out->log);
    file_read(&survey->inbox, &out->inbox);
    out->log_records = peal_txn_entries(&survey->log, PEAL_TREE_LOG);
    out->log_waiting = survey->newest - survey->moved;
    out->log_damaged = survey->gather.corrupt;
    enum peal_err err = peal_survey_groups(survey, &count, group_count);
    return err == PEAL_OK ? log_count(&count) : err;
}
