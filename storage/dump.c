#include "storage/dump.h"

#include <errno.h>

#include "base/clock.h"
#include "proto/envelope.h"
#include "storage/batch.h"
#include "storage/dump_line.h"

struct dump {
    struct peal_survey *survey;
    FILE *to;
    struct peal_dump_result *result;
    const struct peal_survey_group *group;
    struct peal_buf out;
};

static enum peal_err flush(struct dump *dump)
{
    if (dump->out.failed) return PEAL_ENOMEM;
    size_t size = dump->out.size;
    dump->out.size = 0;
    errno = 0;
    return fwrite(dump->out.at, 1, size, dump->to) == size ? PEAL_OK : PEAL_EIO;
}

static enum peal_err message_dump(void *ctx, uint64_t offset, const struct peal_record *record)
{
    struct dump *dump = ctx;
    struct peal_dump_line line = {.kind = PEAL_DUMP_MESSAGE};
    if (record == NULL || peal_envelope_decode(record->envelope, &line.env) != PEAL_OK ||
        !peal_span_equal(line.env.group, dump->group->name)) {
        dump->result->damaged++;
        return PEAL_OK;
    }
    line.env.offset = offset;
    line.stored_ms = record->stored_ms;
    line.expires_ms = record->expires_ms;
    peal_dump_encode(&line, &dump->out);
    dump->result->messages++;
    return flush(dump);
}

static enum peal_err group_dump(void *ctx, const struct peal_survey_group *group)
{
    struct dump *dump = ctx;
    if (group->inbox == NULL) {
        dump->result->damaged++;
        return PEAL_OK;
    }
    dump->group = group;
    peal_dump_encode_head(group->name, group->inbox, &dump->out);
    dump->result->groups++;
    enum peal_err err = flush(dump);
    return err == PEAL_OK ? peal_survey_messages(dump->survey, group, dump, message_dump) : err;
}

static enum peal_err header_dump(struct dump *dump)
{
    struct peal_dump_line line = {.kind = PEAL_DUMP_HEADER,
                                  .version = PEAL_DUMP_VERSION,
                                  .generation = dump->survey->generation,
                                  .made_ms = peal_clock_wall_ms()};
    enum peal_err err = peal_blob_get(&dump->survey->log, "slots", &line.slots);
    line.has_slots = err == PEAL_OK;
    if (err == PEAL_ECORRUPT) dump->result->damaged++;
    if (err != PEAL_OK && err != PEAL_ECORRUPT && err != PEAL_ENOT_FOUND) return err;
    peal_dump_encode(&line, &dump->out);
    return flush(dump);
}

enum peal_err peal_dump_write(struct peal_survey *survey, FILE *to, struct peal_dump_result *out)
{
    struct dump dump = {.survey = survey, .to = to, .result = out};
    *out = (struct peal_dump_result){.damaged = survey->gather.corrupt};
    enum peal_err err = header_dump(&dump);
    if (err == PEAL_OK) err = peal_survey_groups(survey, &dump, group_dump);
    struct peal_dump_line end = {
        .kind = PEAL_DUMP_END, .groups = out->groups, .messages = out->messages};
    if (err == PEAL_OK) peal_dump_encode(&end, &dump.out);
    if (err == PEAL_OK) err = flush(&dump);
    if (err == PEAL_OK && fflush(to) != 0) err = PEAL_EIO;
    peal_buf_fini(&dump.out);
    return err;
}
