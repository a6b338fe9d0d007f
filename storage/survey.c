#include "storage/survey.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "proto/group.h"
#include "storage/batch.h"
#include "storage/entry.h"
#include "storage/folder.h"

/* ---- open and close ----------------------------------------------------------------------- */

static enum peal_err numbers_read(struct peal_survey *survey, char *why, size_t why_size)
{
    uint64_t generation = 0;
    enum peal_err err = peal_number_get(&survey->log, "layout", &survey->layout);
    if (err == PEAL_OK && survey->layout != PEAL_LAYOUT) {
        snprintf(why, why_size, "the data has layout %llu and this program reads %d",
                 (unsigned long long)survey->layout, PEAL_LAYOUT);
        return PEAL_ECORRUPT;
    }
    if (err == PEAL_OK) err = peal_number_get(&survey->log, "generation", &survey->generation);
    if (err == PEAL_OK) err = peal_number_get(&survey->log, "moved", &survey->moved);
    if (err == PEAL_OK) err = peal_number_get(&survey->inbox, "generation", &generation);
    if (err != PEAL_OK)
        snprintf(why, why_size, "a number of the store itself is damaged or missing");
    if (err == PEAL_OK && generation != survey->generation) {
        snprintf(why, why_size, "log and inbox are of different stores");
        err = PEAL_ECORRUPT;
    }
    return err == PEAL_ENOT_FOUND ? PEAL_ECORRUPT : err;
}

/* The sequence of the newest record. */
static enum peal_err newest_read(struct peal_survey *survey)
{
    struct peal_span key;
    struct peal_span value;
    uint64_t low = survey->moved;
    uint64_t high = UINT64_MAX;
    survey->newest = survey->moved;
    /* There is a record at or after `low`, or low is `moved`; there is none at or after `high`. */
    while (low < high) {
        char at[PEAL_KEY_ENTRY];
        uint64_t seq;
        uint64_t middle = low + (high - low) / 2;
        peal_key_entry(at, middle + 1);
        enum peal_err err =
            peal_txn_seek(&survey->log, PEAL_TREE_LOG, peal_span_make(at, sizeof at), &key, &value);
        if (err == PEAL_ENOT_FOUND) {
            high = middle;
            continue;
        }
        if (err != PEAL_OK) return err;
        if (peal_key_entry_seq(key, &seq) != PEAL_OK || seq <= middle) return PEAL_ECORRUPT;
        low = survey->newest = seq;
    }
    return PEAL_OK;
}

static enum peal_err gather(struct peal_survey *survey)
{
    survey->gather = (struct peal_gather){
        .log = &survey->log, .inbox = &survey->inbox, .stopping = &survey->stopping};
    return peal_gather_range(&survey->gather, survey->moved + 1, UINT64_MAX);
}

enum peal_err peal_survey_open(struct peal_survey *survey, const char *dir, char *why,
                               size_t why_size)
{
    *survey = (struct peal_survey){.folder_fd = -1};
    why[0] = '\0';
    enum peal_err err = peal_folder_visit(dir, false, &survey->folder_fd, why, why_size);
    if (err == PEAL_OK)
        err = peal_db_open_reading(dir, PEAL_DB_LOG, &survey->log_db, why, why_size);
    if (err == PEAL_OK)
        err = peal_db_open_reading(dir, PEAL_DB_INBOX, &survey->inbox_db, why, why_size);
    if (err == PEAL_OK) err = peal_txn_begin(&survey->log, survey->log_db, false);
    if (err == PEAL_OK) err = peal_txn_begin(&survey->inbox, survey->inbox_db, false);
    if (err == PEAL_OK) err = numbers_read(survey, why, why_size);
    if (err == PEAL_OK) err = newest_read(survey);
    if (err == PEAL_OK) err = gather(survey);
    if (err != PEAL_OK && why[0] == '\0')
        snprintf(why, why_size, "cannot read the store in %s: %s", dir, peal_err_word(err));
    return err;
}

void peal_survey_close(struct peal_survey *survey)
{
    peal_gather_fini(&survey->gather);
    if (survey->inbox.mdb != NULL) peal_txn_abort(&survey->inbox);
    if (survey->log.mdb != NULL) peal_txn_abort(&survey->log);
    peal_db_close(survey->inbox_db);
    peal_db_close(survey->log_db);
    if (survey->folder_fd >= 0) close(survey->folder_fd);
    *survey = (struct peal_survey){.folder_fd = -1};
}

/* ---- groups ------------------------------------------------------------------------------- */

/* Is this what the log makes of the group, after everything that was dropped? */
static const struct peal_gathered *find_gathered(const struct peal_survey *survey,
                                                 struct peal_span name)
{
    struct peal_map_node *node = peal_map_find(&survey->gather.map, name);
    if (node == NULL) return NULL;
    const struct peal_gathered *group = PEAL_FROM_NODE(node, struct peal_gathered, node);
    return group->since > survey->gather.dropped[group->slot] ? group : NULL;
}

static bool in_inbox(struct peal_survey *survey, struct peal_span name)
{
    char at[PEAL_KEY_HEAD_MAX];
    struct peal_span value;
    struct peal_span key = {at, peal_key_head(at, name)};
    return peal_txn_get(&survey->inbox, PEAL_TREE_HEAD, key, &value) == PEAL_OK;
}

static enum peal_err
head_visit(struct peal_survey *survey, struct peal_span key, struct peal_span value, void *ctx,
           enum peal_err (*call)(void *ctx, const struct peal_survey_group *group))
{
    struct peal_inbox inbox = {0};
    struct peal_survey_group group = {0};
    if (key.size >= 2)
        group.slot = (uint16_t)((unsigned char)key.at[0] << 8 | (unsigned char)key.at[1]);
    if (peal_key_head_group(key, &group.name) != PEAL_OK) return call(ctx, &group);
    group.gathered = find_gathered(survey, group.name);
    if (group.gathered != NULL) {
        group.inbox = &group.gathered->inbox;
        return call(ctx, &group);
    }
    if (survey->gather.dropped[group.slot] != 0) return PEAL_OK; /* forgotten, not yet removed */
    enum peal_err err = peal_head_decode(key, value, &inbox);
    if (err == PEAL_ENOMEM) return err;
    if (err == PEAL_OK) group.inbox = &inbox;
    err = call(ctx, &group);
    if (group.inbox != NULL) peal_inbox_fini(&inbox);
    return err;
}

enum peal_err peal_survey_groups(struct peal_survey *survey, void *ctx,
                                 enum peal_err (*call)(void *ctx,
                                                       const struct peal_survey_group *group))
{
    struct peal_scan scan;
    struct peal_span key;
    struct peal_span value;
    enum peal_err err =
        peal_scan_begin(&scan, &survey->inbox, PEAL_TREE_HEAD, (struct peal_span){0});
    if (err != PEAL_OK) return err;
    while (err == PEAL_OK && (err = peal_scan_next(&scan, &key, &value)) == PEAL_OK)
        err = head_visit(survey, key, value, ctx, call);
    peal_scan_end(&scan);
    if (err != PEAL_ENOT_FOUND) return err;
    err = PEAL_OK;
    for (size_t i = 0; i < survey->gather.group_count && err == PEAL_OK; i++) {
        const struct peal_gathered *gathered = survey->gather.groups[i];
        struct peal_survey_group group = {.name = peal_gathered_name(gathered),
                                          .slot = gathered->slot,
                                          .inbox = &gathered->inbox,
                                          .gathered = gathered};
        if (!in_inbox(survey, group.name)) err = call(ctx, &group);
    }
    return err;
}

/* ---- messages ----------------------------------------------------------------------------- */

/* What the log has of a group, in order of offsets; of two the one that came last. */
static int place_compare(const void *a, const void *b)
{
    const struct peal_gathered_place *x = a;
    const struct peal_gathered_place *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return x->seq < y->seq ? 1 : x->seq > y->seq ? -1 : 0;
}

struct walk {
    struct peal_survey *survey;
    const struct peal_survey_group *group;
    const struct peal_gathered_place *places; /* sorted */
    size_t place_count;
    size_t at; /* the next of them */
    void *ctx;
    enum peal_err (*call)(void *ctx, uint64_t offset, const struct peal_record *record);
};

static bool is_kept(const struct walk *walk, uint64_t offset)
{
    const struct peal_numbers *n = &walk->group->inbox->n;
    if (offset < n->first || offset >= n->next) return false;
    return walk->group->gathered == NULL || !peal_gathered_is_hole(walk->group->gathered, offset);
}

static enum peal_err place_visit(struct walk *walk, const struct peal_gathered_place *place)
{
    char at[PEAL_KEY_ENTRY];
    struct peal_span key = {at, sizeof at};
    struct peal_span value;
    struct peal_entry entry;
    struct peal_record record;
    peal_key_entry(at, place->seq);
    enum peal_err err = peal_txn_get(&walk->survey->log, PEAL_TREE_LOG, key, &value);
    if (err == PEAL_OK) err = peal_entry_decode(key, value, &walk->survey->gather.room, &entry);
    if (err == PEAL_ECORRUPT || err == PEAL_ENOT_FOUND)
        return walk->call(walk->ctx, place->offset, NULL);
    if (err != PEAL_OK) return err;
    record = (struct peal_record){
        .stored_ms = entry.stored_ms, .expires_ms = entry.expires_ms, .envelope = entry.envelope};
    return walk->call(walk->ctx, place->offset, &record);
}

/* Those of the log below `end`; *same: that the last of them was at end itself. */
static enum peal_err places_visit(struct walk *walk, uint64_t end, bool *same)
{
    enum peal_err err = PEAL_OK;
    *same = false;
    while (err == PEAL_OK && walk->at < walk->place_count && walk->places[walk->at].offset <= end) {
        const struct peal_gathered_place *place = &walk->places[walk->at++];
        bool again = walk->at > 1 && place[-1].offset == place->offset;
        if (place->offset == end) *same = true;
        if (!again && is_kept(walk, place->offset)) err = place_visit(walk, place);
    }
    return err;
}

static enum peal_err message_visit(struct walk *walk, uint64_t offset, struct peal_span key,
                                   struct peal_span value)
{
    struct peal_record record;
    bool same;
    enum peal_err err = places_visit(walk, offset, &same);
    if (err != PEAL_OK || same || !is_kept(walk, offset)) return err;
    bool whole = peal_record_decode(key, value, &record) == PEAL_OK;
    return walk->call(walk->ctx, offset, whole ? &record : NULL);
}

static enum peal_err messages_visit(struct walk *walk)
{
    char at[PEAL_KEY_MESSAGE];
    struct peal_scan scan;
    struct peal_span key;
    struct peal_span value;
    const struct peal_numbers *n = &walk->group->inbox->n;
    bool same;
    peal_key_message(at, walk->group->slot, n->gid, n->first);
    enum peal_err err = peal_scan_begin(&scan, &walk->survey->inbox, PEAL_TREE_MESSAGE,
                                        peal_span_make(at, sizeof at));
    if (err != PEAL_OK) return err;
    while (err == PEAL_OK && (err = peal_scan_next(&scan, &key, &value)) == PEAL_OK) {
        uint64_t offset = peal_key_message_offset(key, walk->group->slot, n->gid);
        if (offset == 0 || offset >= n->next) break;
        err = message_visit(walk, offset, key, value);
    }
    peal_scan_end(&scan);
    if (err != PEAL_OK && err != PEAL_ENOT_FOUND) return err;
    return places_visit(walk, n->next - 1, &same);
}

enum peal_err peal_survey_messages(struct peal_survey *survey,
                                   const struct peal_survey_group *group, void *ctx,
                                   enum peal_err (*message)(void *ctx, uint64_t offset,
                                                            const struct peal_record *record))
{
    PEAL_ASSERT(group->inbox != NULL);
    struct walk walk = {.survey = survey, .group = group, .ctx = ctx, .call = message};
    struct peal_gathered_place *sorted = NULL;
    if (group->inbox->n.first == group->inbox->n.next) return PEAL_OK;
    if (group->gathered != NULL && group->gathered->place_count > 0) {
        size_t size = group->gathered->place_count * sizeof *sorted;
        sorted = malloc(size);
        if (sorted == NULL) return PEAL_ENOMEM;
        memcpy(sorted, group->gathered->places, size);
        walk.place_count = group->gathered->place_count;
        qsort(sorted, walk.place_count, sizeof *sorted, place_compare);
        walk.places = sorted;
    }
    enum peal_err err = messages_visit(&walk);
    free(sorted);
    return err;
}
