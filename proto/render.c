#include "proto/render.h"

#include "proto/envelope.h"
#include "proto/group.h"
#include "proto/json_write.h"

void peal_render_u64(struct peal_buf *out, const char *name, uint64_t number)
{
    peal_buf_add_text(out, name);
    peal_buf_add_u64(out, number);
}

void peal_render_string(struct peal_buf *out, const char *name, struct peal_span text)
{
    if (text.at == NULL) return;
    peal_buf_add_text(out, name);
    peal_json_add_string(out, text);
}

void peal_render_epoch(struct peal_buf *out, const char *name, uint64_t epoch)
{
    peal_buf_add_text(out, name);
    peal_buf_add_char(out, '"');
    peal_epoch_add(out, epoch);
    peal_buf_add_char(out, '"');
}

void peal_render_message(struct peal_buf *out, const struct peal_envelope *env)
{
    peal_render_u64(out, "\"offset\":", env->offset);
    peal_render_string(out, ",\"id\":", env->id);
    peal_render_string(out, ",\"event\":", env->event);
    switch (env->data_kind) {
    case PEAL_DATA_TEXT:
        peal_render_string(out, ",\"kind\":\"text\",\"data\":", env->data);
        break;
    case PEAL_DATA_BINARY:
        peal_buf_add_text(out, ",\"kind\":\"binary\",\"data\":");
        peal_json_add_base64(out, env->data);
        break;
    default:
        peal_buf_add_text(out, ",\"data\":");
        peal_buf_add_span(out, env->data);
    }
    peal_render_string(out, ",\"from\":", env->from);
    peal_render_u64(out, ",\"ts\":", env->ts_ms);
}

uint64_t peal_render_page(struct peal_buf *out, const struct peal_frame *page)
{
    uint64_t oldest = 0;
    peal_buf_add_char(out, '[');
    for (size_t i = 0; i < page->entries.count; i++) {
        struct peal_frame entry;
        struct peal_envelope env;
        if (peal_frame_decode(page->entries.at[i], &entry) != PEAL_OK) continue;
        if (entry.type == PEAL_F_MESSAGE && peal_envelope_decode(entry.envelope, &env) == PEAL_OK) {
            bool read = (entry.flags & PEAL_FLAG_READ) != 0;
            /* Who has read it has had it. */
            bool delivered = read || (entry.flags & PEAL_FLAG_ACKED) != 0;
            peal_buf_add_text(out, oldest == 0 ? "{" : ",{");
            peal_render_message(out, &env);
            peal_buf_add_text(out, read ? ",\"read\":true" : ",\"read\":false");
            peal_buf_add_text(out, delivered ? ",\"delivered\":true}" : ",\"delivered\":false}");
            oldest = env.offset;
        }
        peal_frame_fini(&entry);
    }
    peal_buf_add_char(out, ']');
    return oldest;
}
