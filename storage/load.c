/* Groups are written straight to the inbox, as if all had been settled, in transactions of some
 * thousand records; the log gets its numbers last, and a store without them does not open. A head
 * is written behind its messages, which say what is kept. */
#include "storage/dump.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "proto/envelope.h"
#include "proto/group.h"
#include "storage/batch.h"
#include "storage/dump_line.h"
#include "storage/folder.h"

enum { TXN_RECORDS = 10000 };

/* Far beyond what one group gets, and there is much to count on from it. */
#define NEXT_END ((uint64_t)1 << 51)

/* Address space for each file while it is loaded; the store that opens them has its own limit. */
#define LOAD_BYTES_MAX ((uint64_t)1 << 42)

struct load {
    struct peal_db *inbox_db;
    struct peal_db *log_db;
    struct peal_txn txn; /* of the inbox */
    size_t records;      /* in it */
    struct peal_dump_result *result;
    struct peal_dump_room room;
    struct peal_buf slots;
    bool has_slots;
    bool begun;
    bool ended;
    uint64_t gid;
    /* The group in hand. */
    char name[PEAL_NAME_MAX];
    size_t name_size; /* 0: none */
    uint16_t slot;
    struct peal_inbox head;
    uint64_t last; /* offset of its last message */
    struct peal_buf envelope;
    char *why;
    size_t why_size;
};

static uint64_t random_number(void)
{
    return (peal_random_u64() >> 11) | 1; /* 53 bits, as all epochs */
}

static enum peal_err refuse(struct load *load, const char *what)
{
    snprintf(load->why, load->why_size, "%s", what);
    return PEAL_EBAD_MESSAGE;
}

static enum peal_err wrote(struct load *load)
{
    if (++load->records < TXN_RECORDS) return PEAL_OK;
    load->records = 0;
    enum peal_err err = peal_txn_commit(&load->txn);
    return err == PEAL_OK ? peal_txn_begin(&load->txn, load->inbox_db, true) : err;
}

/* ---- groups ------------------------------------------------------------------------------- */

static enum peal_err group_end(struct load *load)
{
    char at[PEAL_KEY_HEAD_MAX];
    char record[PEAL_RECORD_HEAD_MAX];
    struct peal_numbers *n = &load->head.n;
    struct peal_span there;
    if (load->name_size == 0) return PEAL_OK;
    struct peal_span group = {load->name, load->name_size};
    struct peal_span key = {at, peal_key_head(at, group)};
    load->name_size = 0;
    if (n->kept == 0 && n->first < n->next) {
        struct peal_numbers empty = *n;
        empty.lost_to = empty.next - 1;
        empty.first = empty.next;
        peal_inbox_become(&load->head, &empty);
    }
    enum peal_err err = peal_txn_get(&load->txn, PEAL_TREE_HEAD, key, &there);
    if (err == PEAL_OK) err = refuse(load, "a group is there twice");
    if (err == PEAL_ENOT_FOUND) {
        size_t size = peal_head_encode(key, &load->head, record);
        err = peal_txn_put(&load->txn, PEAL_TREE_HEAD, key, peal_span_make(record, size));
    }
    peal_inbox_fini(&load->head);
    load->head = (struct peal_inbox){0};
    return err == PEAL_OK ? wrote(load) : err;
}

static enum peal_err group_begin(struct load *load, const struct peal_dump_line *line)
{
    enum peal_err err = group_end(load);
    if (err != PEAL_OK) return err;
    if (line->numbers.next >= NEXT_END) return refuse(load, "\"next\" is too large");
    struct peal_numbers n = line->numbers;
    n.gid = ++load->gid;
    n.epoch = random_number();
    n.ver = 1;
    memcpy(load->name, line->group.at, line->group.size);
    load->name_size = line->group.size;
    load->slot = peal_group_slot(line->group);
    load->last = 0;
    peal_inbox_init(&load->head, n.epoch);
    peal_inbox_become(&load->head, &n);
    err = peal_inbox_reserve(&load->head, n.next);
    if (err != PEAL_OK) return err;
    for (size_t i = 0; i < line->delivered_count; i++)
        peal_inbox_set(&load->head, false, line->delivered[i].from, line->delivered[i].to);
    for (size_t i = 0; i < line->read_count; i++)
        peal_inbox_set(&load->head, true, line->read[i].from, line->read[i].to);
    load->result->groups++;
    return PEAL_OK;
}

/* ---- messages ----------------------------------------------------------------------------- */

static void count_kept(struct peal_numbers *n, const struct peal_dump_line *line, uint64_t bytes)
{
    if (n->kept++ == 0) n->oldest_ms = line->stored_ms;
    n->bytes += bytes;
    if (line->expires_ms != 0 && (n->expires_ms == 0 || line->expires_ms < n->expires_ms))
        n->expires_ms = line->expires_ms;
}

static enum peal_err message_load(struct load *load, struct peal_dump_line *line)
{
    char at[PEAL_KEY_MESSAGE];
    struct peal_span key = {at, sizeof at};
    struct peal_numbers *n = &load->head.n;
    uint64_t offset = line->env.offset;
    char *room;
    if (load->name_size == 0) return refuse(load, "a message without its group");
    if (offset < n->first || offset >= n->next || offset <= load->last)
        return refuse(load, "\"offset\" is outside of the group or not behind the one before");
    load->last = offset;
    line->env.group = peal_span_make(load->name, load->name_size);
    line->env.epoch = n->epoch;
    load->envelope.size = 0;
    peal_envelope_encode(&line->env, &load->envelope);
    if (load->envelope.failed) return PEAL_ENOMEM;
    struct peal_record record = {.stored_ms = line->stored_ms,
                                 .expires_ms = line->expires_ms,
                                 .envelope = peal_buf_span(&load->envelope)};
    peal_key_message(at, load->slot, n->gid, offset);
    enum peal_err err = peal_txn_reserve(&load->txn, PEAL_TREE_MESSAGE, key,
                                         PEAL_RECORD_MESSAGE + record.envelope.size, &room);
    if (err != PEAL_OK) return err;
    peal_record_encode(key, &record, room);
    count_kept(n, line, record.envelope.size);
    load->result->messages++;
    return wrote(load);
}

/* ---- the lines ---------------------------------------------------------------------------- */

static enum peal_err header_load(struct load *load, const struct peal_dump_line *line)
{
    load->begun = true;
    load->has_slots = line->has_slots;
    peal_buf_add_span(&load->slots, line->slots);
    return load->slots.failed ? PEAL_ENOMEM : PEAL_OK;
}

static enum peal_err end_load(struct load *load, const struct peal_dump_line *line)
{
    load->ended = true;
    if (line->groups == load->result->groups && line->messages == load->result->messages)
        return group_end(load);
    return refuse(load, "groups or messages are missing: the last line counts others");
}

static enum peal_err line_load(struct load *load, struct peal_span text)
{
    struct peal_dump_line line;
    enum peal_err err = peal_dump_decode(text, &load->room, &line, load->why, load->why_size);
    if (err != PEAL_OK) return err;
    if (load->begun != (line.kind != PEAL_DUMP_HEADER) || load->ended)
        return refuse(load, "a dump begins with its header, and ends with its end");
    switch (line.kind) {
    case PEAL_DUMP_HEADER:
        return header_load(load, &line);
    case PEAL_DUMP_GROUP:
        return group_begin(load, &line);
    case PEAL_DUMP_MESSAGE:
        return message_load(load, &line);
    case PEAL_DUMP_END:
        break;
    }
    return end_load(load, &line);
}

static enum peal_err lines_load(struct load *load, FILE *from)
{
    char *line = NULL;
    size_t room = 0;
    enum peal_err err = PEAL_OK;
    ssize_t size;
    while (err == PEAL_OK && (size = getline(&line, &room, from)) > 0) {
        load->result->line++;
        if (line[size - 1] == '\n') size--;
        err = line_load(load, peal_span_make(line, (size_t)size));
    }
    if (err == PEAL_OK && ferror(from)) {
        snprintf(load->why, load->why_size, "cannot read: %s", strerror(errno));
        err = PEAL_EIO;
    }
    free(line);
    if (err == PEAL_OK && !load->ended) err = refuse(load, "the end is missing: it was cut off");
    return err;
}

/* ---- the store ---------------------------------------------------------------------------- */

static enum peal_err inbox_finish(struct load *load, uint64_t generation)
{
    enum peal_err err = peal_number_put(&load->txn, "layout", PEAL_LAYOUT);
    if (err == PEAL_OK) err = peal_number_put(&load->txn, "generation", generation);
    if (err == PEAL_OK) err = peal_number_put(&load->txn, "gid", load->gid);
    return err == PEAL_OK ? peal_txn_commit(&load->txn) : err;
}

static enum peal_err log_finish(struct load *load, uint64_t generation)
{
    struct peal_txn txn;
    enum peal_err err = peal_txn_begin(&txn, load->log_db, true);
    if (err != PEAL_OK) return err;
    err = peal_number_put(&txn, "layout", PEAL_LAYOUT);
    if (err == PEAL_OK) err = peal_number_put(&txn, "generation", generation);
    if (err == PEAL_OK) err = peal_number_put(&txn, "moved", 0);
    if (err == PEAL_OK) err = peal_number_put(&txn, "damage", 0);
    if (err == PEAL_OK && load->has_slots)
        err = peal_blob_put(&txn, "slots", peal_buf_span(&load->slots));
    if (err == PEAL_OK) return peal_txn_commit(&txn);
    peal_txn_abort(&txn);
    return err;
}

/* The data is synced with its commits; the names of the files are not. */
static enum peal_err folders_sync(const char *dir)
{
    char path[4096];
    enum peal_err err = peal_db_sync_folder(dir);
    snprintf(path, sizeof path, "%s/log", dir);
    if (err == PEAL_OK) err = peal_db_sync_folder(path);
    snprintf(path, sizeof path, "%s/inbox", dir);
    return err == PEAL_OK ? peal_db_sync_folder(path) : err;
}

static enum peal_err store_load(struct load *load, const char *dir, FILE *from)
{
    uint64_t generation = random_number();
    enum peal_err err = peal_db_open(dir, PEAL_DB_INBOX, LOAD_BYTES_MAX, &load->inbox_db, load->why,
                                     load->why_size);
    if (err == PEAL_OK)
        err = peal_db_open(dir, PEAL_DB_LOG, LOAD_BYTES_MAX, &load->log_db, load->why,
                           load->why_size);
    if (err == PEAL_OK) err = peal_txn_begin(&load->txn, load->inbox_db, true);
    if (err == PEAL_OK) err = lines_load(load, from);
    if (err == PEAL_OK) err = inbox_finish(load, generation);
    if (err == PEAL_OK) err = log_finish(load, generation);
    return err == PEAL_OK ? folders_sync(dir) : err;
}

static void load_fini(struct load *load)
{
    if (load->txn.mdb != NULL) peal_txn_abort(&load->txn);
    peal_db_close(load->inbox_db);
    peal_db_close(load->log_db);
    peal_inbox_fini(&load->head);
    peal_dump_room_fini(&load->room);
    peal_buf_fini(&load->slots);
    peal_buf_fini(&load->envelope);
}

enum peal_err peal_dump_load(const char *dir, FILE *from, struct peal_dump_result *out, char *why,
                             size_t why_size)
{
    struct load load = {.result = out, .why = why, .why_size = why_size};
    int lock = -1;
    *out = (struct peal_dump_result){0};
    why[0] = '\0';
    if (!peal_folder_empty(dir)) {
        snprintf(why, why_size, "%s is not empty", dir);
        return PEAL_EINUSE;
    }
    enum peal_err err = peal_folder_take(dir, &lock, why, why_size);
    if (err != PEAL_OK) return err;
    err = store_load(&load, dir, from);
    load_fini(&load);
    if (err != PEAL_OK) peal_folder_clear(dir);
    close(lock);
    if (err != PEAL_OK && why[0] == '\0')
        snprintf(why, why_size, "cannot write to %s: %s", dir, peal_err_word(err));
    return err;
}
