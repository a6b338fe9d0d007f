#include "storage/verify.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "proto/envelope.h"
#include "proto/group.h"
#include "storage/batch.h"
#include "storage/entry.h"

/* What the log said of a group last. */
struct trace {
    struct peal_map_node node;
    uint64_t gid;
    uint64_t ver;
    uint64_t seq;
    size_t name_size;
    char name[];
};

/* A head of the slot in hand. */
struct owner {
    uint64_t gid;
    uint64_t first;
    uint64_t next;
    uint64_t kept;
    uint64_t found;
    size_t name_size;
    char name[PEAL_NAME_MAX];
};

struct check {
    struct peal_survey *survey;
    struct peal_verify *verify;
    struct peal_map traces;
    uint64_t dropped[PEAL_SLOTS]; /* sequence of the last DROP in the log; 0: none */
    struct peal_buf owners;       /* struct owner, by gid */
    uint64_t gid;                 /* the highest there may be in the inbox */
    uint64_t found;               /* messages of the group in hand, log applied */
    uint64_t damaged;             /* of them */
};

__attribute__((format(printf, 2, 3))) static void report(struct check *check, const char *format,
                                                         ...)
{
    char text[600];
    va_list args;
    check->verify->problems++;
    if (check->verify->problem == NULL) return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    check->verify->problem(check->verify->ctx, text);
}

typedef unsigned long long ull;

/* ---- numbers ------------------------------------------------------------------------------ */

static void number_check(struct check *check, struct peal_txn *txn, const char *file,
                         const char *name, bool needed)
{
    uint64_t number;
    enum peal_err err = peal_number_get(txn, name, &number);
    if (err == PEAL_ENOT_FOUND && needed) report(check, "%s: the number %s is missing", file, name);
    if (err == PEAL_ECORRUPT) report(check, "%s: the number %s is damaged", file, name);
}

static void numbers_check(struct check *check)
{
    struct peal_survey *survey = check->survey;
    struct peal_span slots;
    number_check(check, &survey->log, "log", "owner", false); /* a loaded one has had none */
    number_check(check, &survey->log, "log", "copy", false);
    number_check(check, &survey->log, "log", "damage", true);
    number_check(check, &survey->inbox, "inbox", "layout", true);
    number_check(check, &survey->inbox, "inbox", "gid", true);
    if (peal_blob_get(&survey->log, "slots", &slots) == PEAL_ECORRUPT)
        report(check, "log: the record of slots is damaged");
    check->gid = UINT64_MAX;
    uint64_t gid;
    if (peal_number_get(&survey->inbox, "gid", &gid) == PEAL_OK) check->gid = gid;
}

/* ---- the log ------------------------------------------------------------------------------ */

static const char *quote(struct peal_span name, char out[256])
{
    return peal_log_quote(name, out, 256);
}

/* The first record of a group that the log has, against what the inbox knows of it. */
static void first_check(struct check *check, const struct peal_entry *entry, uint64_t seq)
{
    char at[PEAL_KEY_HEAD_MAX];
    char quoted[256];
    struct peal_inbox inbox;
    struct peal_span value;
    struct peal_span key = {at, peal_key_head(at, entry->group)};
    const struct peal_numbers *n = &entry->numbers;
    if (check->dropped[peal_group_slot(entry->group)] != 0) return;
    enum peal_err err = peal_txn_get(&check->survey->inbox, PEAL_TREE_HEAD, key, &value);
    if (err == PEAL_OK) err = peal_head_decode(key, value, &inbox);
    if (err == PEAL_ENOT_FOUND && seq > check->survey->moved && n->ver > 1)
        report(check,
               "log: record %llu of group %s has version %llu, and there is nothing before it",
               (ull)seq, quote(entry->group, quoted), (ull)n->ver);
    if (err != PEAL_OK) return; /* a damaged head is told where heads are looked at */
    if (seq > check->survey->moved && inbox.n.gid == n->gid && n->ver > inbox.n.ver + 1)
        report(check,
               "log: record %llu of group %s has version %llu, and the inbox has only version %llu",
               (ull)seq, quote(entry->group, quoted), (ull)n->ver, (ull)inbox.n.ver);
    peal_inbox_fini(&inbox);
}

static enum peal_err trace_new(struct check *check, const struct peal_entry *entry,
                               struct trace **out)
{
    struct trace *trace = calloc(1, sizeof *trace + entry->group.size);
    if (trace == NULL) return PEAL_ENOMEM;
    trace->name_size = entry->group.size;
    memcpy(trace->name, entry->group.at, entry->group.size);
    peal_map_add(&check->traces, &trace->node, peal_span_make(trace->name, trace->name_size));
    *out = trace;
    return PEAL_OK;
}

static enum peal_err version_check(struct check *check, const struct peal_entry *entry,
                                   uint64_t seq)
{
    char quoted[256];
    struct trace *trace = NULL;
    const struct peal_numbers *n = &entry->numbers;
    struct peal_map_node *node = peal_map_find(&check->traces, entry->group);
    if (node != NULL) {
        trace = PEAL_FROM_NODE(node, struct trace, node);
    } else {
        enum peal_err err = trace_new(check, entry, &trace);
        if (err != PEAL_OK) return err;
        first_check(check, entry, seq);
    }
    bool forgotten = check->dropped[peal_group_slot(entry->group)] > trace->seq;
    if (trace->seq != 0 && !forgotten && n->gid == trace->gid && n->ver != trace->ver + 1)
        report(check, "log: record %llu of group %s has version %llu, and the one before has %llu",
               (ull)seq, quote(entry->group, quoted), (ull)n->ver, (ull)trace->ver);
    if (trace->seq != 0 && !forgotten && n->gid < trace->gid)
        report(check, "log: record %llu of group %s has a number that is older than before",
               (ull)seq, quote(entry->group, quoted));
    trace->gid = n->gid;
    trace->ver = n->ver;
    trace->seq = seq;
    return PEAL_OK;
}

static void envelope_check(struct check *check, const struct peal_entry *entry, uint64_t seq)
{
    struct peal_envelope env;
    if (entry->kind != PEAL_ENTRY_PUT && entry->kind != PEAL_ENTRY_MESSAGE) return;
    if (peal_envelope_decode(entry->envelope, &env) != PEAL_OK)
        report(check, "log: the message in record %llu cannot be decoded", (ull)seq);
    else if (env.offset != entry->offset || !peal_span_equal(env.group, entry->group))
        report(check, "log: the message in record %llu is of another group or offset", (ull)seq);
}

static enum peal_err record_check(struct check *check, struct peal_span key, struct peal_span value,
                                  uint64_t seq)
{
    struct peal_entry entry;
    enum peal_err err = peal_entry_decode(key, value, &check->survey->gather.room, &entry);
    if (err == PEAL_ECORRUPT) {
        report(check, "log: record %llu is damaged", (ull)seq);
        return PEAL_OK;
    }
    if (err != PEAL_OK || entry.kind == PEAL_ENTRY_ID) return err;
    if (entry.kind == PEAL_ENTRY_DROP) {
        check->dropped[entry.slot] = seq;
        return PEAL_OK;
    }
    envelope_check(check, &entry, seq);
    return version_check(check, &entry, seq);
}

static enum peal_err log_check(struct check *check)
{
    struct peal_scan scan;
    struct peal_span key;
    struct peal_span value;
    uint64_t last = 0;
    uint64_t moved = check->survey->moved;
    enum peal_err err =
        peal_scan_begin(&scan, &check->survey->log, PEAL_TREE_LOG, (struct peal_span){0});
    if (err != PEAL_OK) return err;
    while (err == PEAL_OK && (err = peal_scan_next(&scan, &key, &value)) == PEAL_OK) {
        uint64_t seq;
        check->verify->records++;
        if (peal_key_entry_seq(key, &seq) != PEAL_OK) {
            report(check, "log: a key behind record %llu is damaged", (ull)last);
            continue;
        }
        if (last == 0 && seq > moved + 1)
            report(check, "log: records %llu to %llu are missing, and the inbox has them not",
                   (ull)moved + 1, (ull)seq - 1);
        if (last != 0 && seq != last + 1)
            report(check, "log: records are missing between %llu and %llu", (ull)last, (ull)seq);
        last = seq;
        err = record_check(check, key, value, seq);
    }
    peal_scan_end(&scan);
    return err == PEAL_ENOT_FOUND ? PEAL_OK : err;
}

/* ---- the inbox ---------------------------------------------------------------------------- */

static void head_check(struct check *check, struct peal_span key, struct peal_span value)
{
    char quoted[256];
    struct peal_span name;
    struct peal_inbox inbox;
    if (peal_key_head_group(key, &name) != PEAL_OK) {
        report(check, "inbox: the key of a head is damaged");
        return;
    }
    if (peal_head_decode(key, value, &inbox) != PEAL_OK) {
        report(check, "inbox: the head of group %s is damaged", quote(name, quoted));
        return;
    }
    const struct peal_numbers *n = &inbox.n;
    if (n->gid > check->gid)
        report(check, "inbox: group %s has number %llu, and the highest given is %llu",
               quote(name, quoted), (ull)n->gid, (ull)check->gid);
    struct owner owner = {
        .gid = n->gid, .first = n->first, .next = n->next, .kept = n->kept, .name_size = name.size};
    memcpy(owner.name, name.at, name.size);
    peal_buf_add(&check->owners, &owner, sizeof owner);
    peal_inbox_fini(&inbox);
}

static int owner_compare(const void *a, const void *b)
{
    const struct owner *x = a;
    const struct owner *y = b;
    return x->gid < y->gid ? -1 : x->gid > y->gid;
}

static uint64_t number_at(struct peal_span key, size_t at)
{
    uint64_t number = 0;
    for (size_t i = at; i < at + 8; i++)
        number = number << 8 | (unsigned char)key.at[i];
    return number;
}

static void message_check(struct check *check, struct peal_span key, struct peal_span value,
                          uint16_t slot)
{
    char quoted[256];
    struct peal_record record;
    struct peal_envelope env;
    if (key.size != PEAL_KEY_MESSAGE) {
        report(check, "inbox: the key of a message in slot %u is damaged", slot);
        return;
    }
    struct owner wanted = {.gid = number_at(key, 2)};
    uint64_t offset = number_at(key, 10);
    size_t count = check->owners.size / sizeof(struct owner);
    struct owner *owner = NULL;
    if (count > 0) owner = bsearch(&wanted, check->owners.at, count, sizeof *owner, owner_compare);
    if (owner == NULL) {
        /* Of a slot that is being forgotten, or of a head that is damaged and was told. */
        if (check->dropped[slot] == 0)
            report(check, "inbox: message %llu of number %llu in slot %u is of no group",
                   (ull)offset, (ull)wanted.gid, slot);
        return;
    }
    struct peal_span name = {owner->name, owner->name_size};
    if (offset < owner->first || offset >= owner->next)
        report(check, "inbox: message %llu of group %s is outside of %llu to %llu", (ull)offset,
               quote(name, quoted), (ull)owner->first, (ull)owner->next - 1);
    else
        owner->found++;
    if (peal_record_decode(key, value, &record) != PEAL_OK)
        report(check, "inbox: message %llu of group %s is damaged", (ull)offset,
               quote(name, quoted));
    else if (peal_envelope_decode(record.envelope, &env) != PEAL_OK)
        report(check, "inbox: message %llu of group %s cannot be decoded", (ull)offset,
               quote(name, quoted));
    else if (env.offset != offset || !peal_span_equal(env.group, name))
        report(check, "inbox: message %llu of group %s is another one", (ull)offset,
               quote(name, quoted));
}

/* Looks at each pair of a slot. */
static enum peal_err slot_walk(struct check *check, enum peal_tree tree, uint16_t slot)
{
    char from[2] = {(char)(unsigned char)(slot >> 8), (char)(unsigned char)slot};
    struct peal_scan scan;
    struct peal_span key;
    struct peal_span value;
    enum peal_err err =
        peal_scan_begin(&scan, &check->survey->inbox, tree, peal_span_make(from, sizeof from));
    if (err != PEAL_OK) return err;
    while ((err = peal_scan_next(&scan, &key, &value)) == PEAL_OK) {
        if (key.size < sizeof from || memcmp(key.at, from, sizeof from) != 0) break;
        if (tree == PEAL_TREE_HEAD) {
            check->verify->heads++;
            head_check(check, key, value);
        } else {
            check->verify->messages++;
            message_check(check, key, value, slot);
        }
    }
    peal_scan_end(&scan);
    return err == PEAL_ENOT_FOUND ? PEAL_OK : err;
}

static void owners_check(struct check *check)
{
    char quoted[256];
    const struct owner *owners = (const void *)check->owners.at;
    size_t count = check->owners.size / sizeof *owners;
    for (size_t i = 0; i < count; i++) {
        struct peal_span name = {owners[i].name, owners[i].name_size};
        if (owners[i].found != owners[i].kept)
            report(check, "inbox: the head of group %s counts %llu messages, and %llu are there",
                   quote(name, quoted), (ull)owners[i].kept, (ull)owners[i].found);
        if (i > 0 && owners[i].gid == owners[i - 1].gid)
            report(check, "inbox: group %s has the number of another one", quote(name, quoted));
    }
}

static enum peal_err inbox_check(struct check *check)
{
    enum peal_err err = PEAL_OK;
    for (uint16_t slot = 0; slot < PEAL_SLOTS && err == PEAL_OK; slot++) {
        check->owners.size = 0;
        err = slot_walk(check, PEAL_TREE_HEAD, slot);
        if (check->owners.failed) err = PEAL_ENOMEM;
        if (err != PEAL_OK) return err;
        if (check->owners.size > 0)
            qsort(check->owners.at, check->owners.size / sizeof(struct owner), sizeof(struct owner),
                  owner_compare);
        err = slot_walk(check, PEAL_TREE_MESSAGE, slot);
        if (err == PEAL_OK) owners_check(check);
    }
    uint64_t heads = peal_txn_entries(&check->survey->inbox, PEAL_TREE_HEAD);
    uint64_t messages = peal_txn_entries(&check->survey->inbox, PEAL_TREE_MESSAGE);
    if (err == PEAL_OK && heads != check->verify->heads)
        report(check, "inbox: %llu heads were found, and there should be %llu",
               (ull)check->verify->heads, (ull)heads);
    if (err == PEAL_OK && messages != check->verify->messages)
        report(check, "inbox: %llu messages were found, and there should be %llu",
               (ull)check->verify->messages, (ull)messages);
    return err;
}

/* ---- both together ------------------------------------------------------------------------ */

static enum peal_err message_count(void *ctx, uint64_t offset, const struct peal_record *record)
{
    struct check *check = ctx;
    (void)offset;
    check->found++;
    if (record == NULL) check->damaged++;
    return PEAL_OK;
}

/* Groups that the log has nothing new of were counted in the inbox. */
static enum peal_err group_check(void *ctx, const struct peal_survey_group *group)
{
    struct check *check = ctx;
    char quoted[256];
    if (group->gathered == NULL || group->inbox == NULL) return PEAL_OK;
    check->found = check->damaged = 0;
    enum peal_err err = peal_survey_messages(check->survey, group, check, message_count);
    if (err == PEAL_OK && check->found != group->inbox->n.kept)
        report(check,
               "log and inbox: the head of group %s counts %llu messages, and %llu are there",
               quote(group->name, quoted), (ull)group->inbox->n.kept, (ull)check->found);
    return err;
}

static void traces_free(struct check *check)
{
    struct peal_map_node *node = peal_map_next(&check->traces, NULL);
    while (node != NULL) {
        struct trace *trace = PEAL_FROM_NODE(node, struct trace, node);
        node = peal_map_next(&check->traces, node);
        free(trace); /* the map is not asked for it any more */
    }
    peal_map_fini(&check->traces);
}

enum peal_err peal_verify_run(struct peal_survey *survey, struct peal_verify *verify)
{
    struct check *check = calloc(1, sizeof *check);
    if (check == NULL) return PEAL_ENOMEM;
    check->survey = survey;
    check->verify = verify;
    verify->problems = verify->records = verify->heads = verify->messages = 0;
    enum peal_err err = peal_map_init(&check->traces);
    if (err == PEAL_OK) {
        numbers_check(check);
        err = log_check(check);
        if (err == PEAL_OK) err = inbox_check(check);
        if (err == PEAL_OK) err = peal_survey_groups(survey, check, group_check);
        traces_free(check);
    }
    peal_buf_fini(&check->owners);
    free(check);
    return err;
}
