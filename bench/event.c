#include "bench/event.h"

/* What follows `name` in the first bytes of a frame; absent when it is not there. */
static struct peal_span behind(struct peal_span frame, const char *name)
{
    size_t size = strlen(name);
    const char *at = memmem(frame.at, frame.size, name, size);
    if (at == NULL) return (struct peal_span){0};
    at += size;
    return peal_span_make(at, (size_t)(frame.at + frame.size - at));
}

static uint64_t number_behind(struct peal_span frame, const char *name)
{
    struct peal_span text = behind(frame, name);
    uint64_t number = 0;
    for (size_t i = 0; i < text.size && text.at[i] >= '0' && text.at[i] <= '9'; i++)
        number = number * 10 + (uint64_t)(text.at[i] - '0');
    return number;
}

/* Groups and the inbox have one `recovered` each; `pending` ones come later as `joined`. The inbox
 * was not asked for and does not count. */
static uint32_t welcome_joined(struct peal_span frame)
{
    struct peal_span groups = behind(frame, "\"groups\":{");
    uint32_t count = 0;
    const char *inbox = groups.at == NULL ? NULL : memmem(groups.at, groups.size, "\"inbox\":{", 9);
    if (inbox != NULL) groups.size = (size_t)(inbox - groups.at);
    while ((groups = behind(groups, "\"recovered\":\"")).at != NULL)
        if (!peal_span_starts(groups, "pending")) count++;
    return count;
}

void peal_event_read_native(struct peal_span frame, struct peal_event *out)
{
    static const char message[] = "{\"type\":\"message\",\"group\":\"";
    *out = (struct peal_event){.kind = PEAL_EVENT_OTHER};
    if (peal_span_starts(frame, message)) {
        struct peal_span rest = {frame.at + sizeof(message) - 1, frame.size - sizeof(message) + 1};
        const char *end = memchr(rest.at, '"', rest.size);
        struct peal_span data = behind(rest, "\"data\":");
        bool whole = end != NULL && data.at != NULL && peal_stamp_read(data, &out->stamp);
        out->kind = whole ? PEAL_EVENT_STAMP : PEAL_EVENT_STRANGE;
        if (whole) out->group = peal_span_make(rest.at, (size_t)(end - rest.at));
    } else if (peal_span_starts(frame, "{\"type\":\"welcome\"")) {
        out->kind = PEAL_EVENT_JOINED;
        out->joined = welcome_joined(frame);
    } else if (peal_span_starts(frame, "{\"type\":\"joined\"")) {
        out->kind = PEAL_EVENT_JOINED;
        out->joined = 1;
    } else if (peal_span_starts(frame, "{\"type\":\"gap\"")) {
        out->kind = PEAL_EVENT_GAP;
        uint64_t from = number_behind(frame, "\"from\":");
        uint64_t to = number_behind(frame, "\"to\":");
        if (to >= from) out->missed = to - from + 1;
    } else if (peal_span_starts(frame, "{\"type\":\"skip\"")) {
        out->kind = PEAL_EVENT_SKIP;
    } else if (peal_span_starts(frame, "{\"type\":\"error\"")) {
        out->kind = PEAL_EVENT_ERROR;
    } else if (!peal_span_starts(frame, "{\"type\":\"")) {
        out->kind = PEAL_EVENT_STRANGE;
    }
}

void peal_event_read_raw(struct peal_span frame, struct peal_event *out)
{
    bool whole = peal_stamp_read(frame, &out->stamp);
    out->kind = whole ? PEAL_EVENT_STAMP : PEAL_EVENT_STRANGE;
    out->joined = 0;
}

void peal_event_read_floor(struct peal_span frame, struct peal_event *out)
{
    peal_event_read_raw(frame, out);
    if (out->kind == PEAL_EVENT_STAMP || !peal_span_starts(frame, "ok ")) return;
    out->kind = PEAL_EVENT_JOINED;
    out->joined = 1;
}
