#include "node/api.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/metrics.h"
#include "proto/group.h"
#include "proto/json.h"
#include "proto/json_check.h"
#include "proto/publish.h"
#include "proto/render.h"
#include "proto/token.h"
#include "proto/utf8.h"
#include "proto/wire.h"

enum { TOKEN_TTL_MS = 12 * 3600 * 1000 };

static const char json_type[] = "application/json";

/* ---- answers ----------------------------------------------------------------------------- */

static void add(struct peal_buf *out, const char *text)
{
    peal_buf_add_text(out, text);
}

void peal_api_add_error(struct peal_buf *out, const char *code, const char *message,
                        const char *field, uint64_t after_ms)
{
    struct peal_span sentence = peal_span_of(message);
    /* A sentence that was cut to fit may end inside a character. */
    while (!peal_utf8_valid(sentence))
        sentence.size--;
    peal_render_string(out, "{\"error\":{\"code\":", peal_span_of(code));
    peal_render_string(out, ",\"message\":", sentence);
    if (field != NULL && field[0] != '\0')
        peal_render_string(out, ",\"field\":", peal_span_of(field));
    if (after_ms > 0) peal_render_u64(out, ",\"after_ms\":", after_ms);
    add(out, "}}");
}

/* The call may be gone when this returns. */
static void finish(struct peal_api_call *call, int status, const char *type)
{
    struct peal_api_answer *answer = &call->answer;
    if (answer->body.failed) {
        static const char words[] =
            "{\"error\":{\"code\":\"internal\",\"message\":\"out of memory\"}}\n";
        peal_buf_fini(&answer->body);
        add(&answer->body, words);
        status = peal_err_http(PEAL_ENOMEM);
        type = json_type;
    }
    answer->status = status;
    answer->type = type;
    call->done(call->ctx);
}

static void finish_json(struct peal_api_call *call, int status)
{
    peal_buf_add_char(&call->answer.body, '\n');
    finish(call, status, json_type);
}

static void fail(struct peal_api_call *call, enum peal_err err, const char *message,
                 const char *field)
{
    peal_api_add_error(&call->answer.body, peal_err_word(err), message, field,
                       call->answer.after_ms);
    finish_json(call, peal_err_http(err));
}

/* ---- publish ----------------------------------------------------------------------------- */

static void add_receipt(struct peal_buf *out, const struct peal_pubcall_result *r)
{
    if (r->err != PEAL_OK) {
        peal_api_add_error(out, peal_err_word(r->err), r->why, r->field, r->after_ms);
        return;
    }
    peal_render_string(out, "{\"id\":", peal_span_make(r->id, r->id_size));
    peal_render_string(out, ",\"group\":", r->group);
    peal_render_epoch(out, ",\"epoch\":", r->epoch);
    peal_render_u64(out, ",\"offset\":", r->offset);
    add(out, r->flags & PEAL_FLAG_STORED ? ",\"ack\":\"stored\"" : ",\"ack\":\"routed\"");
    if (r->flags & PEAL_FLAG_DUPLICATE) add(out, ",\"duplicate\":true");
    add(out, "}");
}

/* 200 when at least one was accepted, else what became of the first. An empty list is fine. */
static int status_of(const struct peal_pubcall_result *results, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (results[i].err == PEAL_OK) return 200;
    return count == 0 ? 200 : peal_err_http(results[0].err);
}

static void publish_done(void *ctx, const struct peal_pubcall_result *results, size_t count)
{
    struct peal_api_call *call = ctx;
    struct peal_buf *out = &call->answer.body;
    if (call->list) add(out, "{\"results\":[");
    for (size_t i = 0; i < count; i++) {
        if (i > 0) add(out, ",");
        add_receipt(out, &results[i]);
        if (results[i].after_ms > call->answer.after_ms)
            call->answer.after_ms = results[i].after_ms;
    }
    if (call->list) add(out, "]}");
    finish_json(call, status_of(results, count));
}

static void publish(struct peal_api_call *call, struct peal_span body)
{
    const struct peal_config *config = call->hub->config;
    struct peal_publish_limits limits = {.message_bytes = config->limits.message,
                                         .targets = config->limits.users_per_publish,
                                         .total_bytes = PEAL_PUBLISH_BYTES_MAX};
    struct peal_publish_request request;
    char why[160] = "";
    enum peal_err err = peal_publish_decode(body, &limits, &request, why, sizeof why);
    if (err != PEAL_OK) {
        fail(call, err, why[0] == '\0' ? "out of memory" : why, NULL);
        return;
    }
    call->list = request.list;
    err = peal_pubcall_start(&call->publish, &request, publish_done, call);
    peal_publish_fini(&request);
    if (err != PEAL_OK) fail(call, err, "out of memory", NULL);
}

/* ---- inbox ------------------------------------------------------------------------------- */

static void inbox_answer(struct peal_api_call *call, const struct peal_frame *page)
{
    struct peal_buf *out = &call->answer.body;
    peal_render_string(out, "{\"user\":", peal_buf_span(&call->user));
    peal_render_epoch(out, ",\"epoch\":", page->epoch);
    peal_render_u64(out, ",\"unread\":", page->unread);
    peal_render_u64(out, ",\"rev\":", page->rev);
    add(out, ",\"messages\":");
    uint64_t oldest = peal_render_page(out, page);
    if (page->flags & PEAL_FLAG_MORE && oldest != 0) peal_render_u64(out, ",\"next\":", oldest);
    add(out, "}");
    finish_json(call, 200);
}

static void mark_answer(struct peal_api_call *call, const struct peal_frame *marked)
{
    peal_render_u64(&call->answer.body, "{\"unread\":", marked->unread);
    peal_render_u64(&call->answer.body, ",\"rev\":", marked->rev);
    add(&call->answer.body, "}");
    finish_json(call, 200);
}

static const char *sentence_of(enum peal_err err)
{
    switch (err) {
    case PEAL_ENO_ROUTER:
        return "the user's router is not reachable";
    case PEAL_EBAD_GROUP:
        return "this user has no inbox that is kept";
    case PEAL_EQUEUE_FULL:
    case PEAL_ERATE_LIMITED:
        return "the server is busy, try again";
    default:
        return "the router refused";
    }
}

static void inbox_answered(struct peal_request *request, const struct peal_frame *answer)
{
    struct peal_api_call *call = PEAL_FROM_LINK(request, struct peal_api_call, request);
    bool page = call->kind == PEAL_GATE_INBOX;
    if (answer == NULL) {
        fail(call, PEAL_ETIMEOUT, "the router did not answer in time", NULL);
    } else if (answer->code != PEAL_OK) {
        enum peal_err err =
            answer->code < PEAL_ERR_COUNT ? (enum peal_err)answer->code : PEAL_EINTERNAL;
        call->answer.after_ms = answer->after_ms;
        fail(call, err, sentence_of(err), NULL);
    } else if (answer->type != (page ? PEAL_F_PAGE : PEAL_F_MARKED)) {
        fail(call, PEAL_EINTERNAL, "the router answered something else", NULL);
    } else if (page) {
        inbox_answer(call, answer);
    } else {
        mark_answer(call, answer);
    }
}

static void ask(struct peal_api_call *call, struct peal_frame *frame)
{
    struct peal_buf group = {0};
    enum peal_err err = peal_group_of_user(peal_buf_span(&call->user), &group);
    frame->group = peal_buf_span(&group);
    if (err == PEAL_OK && group.failed) err = PEAL_ENOMEM;
    if (err == PEAL_OK)
        err = peal_request_send(call->hub, &call->request, peal_buf_span(&group), frame);
    peal_buf_fini(&group);
    if (err != PEAL_OK) fail(call, err, sentence_of(err), NULL);
}

static void inbox(struct peal_api_call *call, const struct peal_gate *gate)
{
    struct peal_frame fetch = {.type = PEAL_F_FETCH,
                               .offset = gate->before,
                               .limit = gate->limit,
                               .bytes = PEAL_PAGE_BYTES,
                               .flags =
                                   PEAL_FLAG_REVERSE | (gate->unread_only ? PEAL_FLAG_UNREAD : 0)};
    ask(call, &fetch);
}

/* Errors: PEAL_EBAD_FIELD, PEAL_ELIMIT. */
static enum peal_err read_offsets(struct peal_span list, struct peal_frame *mark, uint64_t *offsets)
{
    size_t at = 0;
    struct peal_span element;
    if (peal_json_kind_of(list) != PEAL_JSON_ARRAY) return PEAL_EBAD_FIELD;
    mark->offsets.at = offsets;
    while (peal_json_next(list, &at, &element)) {
        uint64_t offset;
        if (peal_json_u64(element, &offset) != PEAL_OK || offset == 0) return PEAL_EBAD_FIELD;
        if (mark->offsets.count == PEAL_ACK_OFFSETS_MAX) return PEAL_ELIMIT;
        offsets[mark->offsets.count++] = offset;
    }
    return mark->offsets.count == 0 ? PEAL_EBAD_FIELD : PEAL_OK;
}

/* Reads {"upto": n}, {"offsets": [..]} or {"all": true}: exactly one of them. */
static enum peal_err read_marks(struct peal_span body, struct peal_frame *mark, uint64_t *offsets,
                                char *why, size_t why_size, const char **field)
{
    struct peal_json json;
    bool all = false;
    enum peal_err err = peal_json_check(body, why, why_size);
    if (err != PEAL_OK) return err;
    snprintf(why, why_size, "send an object with upto, offsets or all");
    if (peal_json_object(body, &json) != PEAL_OK) return PEAL_EBAD_MESSAGE;
    const struct peal_json_field *upto = peal_json_get(&json, "upto");
    const struct peal_json_field *list = peal_json_get(&json, "offsets");
    const struct peal_json_field *every = peal_json_get(&json, "all");
    int given = (upto != NULL) + (list != NULL) + (every != NULL);
    if (given == 0) return PEAL_EMISSING_FIELD;
    if (given > 1) return PEAL_EBAD_MESSAGE;
    if (upto != NULL) {
        *field = "upto";
        snprintf(why, why_size, "upto must be an offset from 1");
        err = peal_json_u64(upto->value, &mark->upto);
        return err == PEAL_OK && mark->upto == 0 ? PEAL_EBAD_FIELD : err;
    }
    if (list != NULL) {
        *field = "offsets";
        snprintf(why, why_size, "offsets must list 1 to %d offsets from 1", PEAL_ACK_OFFSETS_MAX);
        return read_offsets(list->value, mark, offsets);
    }
    *field = "all";
    snprintf(why, why_size, "all must be true");
    if (peal_json_bool(every->value, &all) != PEAL_OK || !all) return PEAL_EBAD_FIELD;
    mark->flags |= PEAL_FLAG_ALL;
    return PEAL_OK;
}

static void mark(struct peal_api_call *call, struct peal_span body)
{
    uint64_t offsets[PEAL_ACK_OFFSETS_MAX];
    struct peal_frame frame = {.type = PEAL_F_MARK,
                               .flags =
                                   call->kind == PEAL_GATE_READ ? PEAL_FLAG_READ : PEAL_FLAG_ACK};
    char why[160] = "";
    const char *field = NULL;
    enum peal_err err = read_marks(body, &frame, offsets, why, sizeof why, &field);
    if (err == PEAL_OK)
        ask(call, &frame);
    else
        fail(call, err, why, field);
}

/* ---- presence ---------------------------------------------------------------------------- */

static void add_settling(struct peal_buf *out, const struct peal_frame *answer)
{
    if (answer->flags & PEAL_FLAG_SETTLING) add(out, ",\"settling\":true");
}

static void presence_answer(struct peal_api_call *call, const struct peal_frame *answer)
{
    struct peal_buf *out = &call->answer.body;
    peal_render_string(out, "{\"group\":", answer->group);
    peal_render_u64(out, ",\"users\":", answer->users);
    peal_render_u64(out, ",\"connections\":", answer->connections);
    add(out, ",\"list\":[");
    for (size_t i = 0; i < answer->people.count; i++) {
        peal_render_string(out, i == 0 ? "{\"user\":" : ",{\"user\":", answer->people.at[i].user);
        peal_render_u64(out, ",\"connections\":", answer->people.at[i].count);
        add(out, "}");
    }
    add(out, "]");
    if (answer->offset != 0) peal_render_u64(out, ",\"next\":", answer->offset);
    if (answer->flags & PEAL_FLAG_TRUNCATED) add(out, ",\"truncated\":true");
    add_settling(out, answer);
    add(out, "}");
    finish_json(call, 200);
}

static void user_answer(struct peal_api_call *call, const struct peal_frame *answer)
{
    struct peal_buf *out = &call->answer.body;
    peal_render_string(out, "{\"user\":", peal_buf_span(&call->user));
    add(out, answer->users > 0 ? ",\"online\":true" : ",\"online\":false");
    peal_render_u64(out, ",\"connections\":", answer->connections);
    add_settling(out, answer);
    add(out, "}");
    finish_json(call, 200);
}

static void who_answered(struct peal_request *request, const struct peal_frame *answer)
{
    struct peal_api_call *call = PEAL_FROM_LINK(request, struct peal_api_call, request);
    if (answer == NULL) {
        fail(call, PEAL_ETIMEOUT, "the router did not answer in time", NULL);
    } else if (answer->code == PEAL_EBAD_FIELD) {
        fail(call, PEAL_EBAD_FIELD,
             call->kind == PEAL_GATE_USER
                 ? "presence is off for inboxes: the policy of user:{id} needs presence: users"
                 : "presence is off for this group: its policy needs presence: users",
             call->kind == PEAL_GATE_USER ? "user" : "group");
    } else if (answer->code != PEAL_OK) {
        enum peal_err err =
            answer->code < PEAL_ERR_COUNT ? (enum peal_err)answer->code : PEAL_EINTERNAL;
        fail(call, err,
             err == PEAL_ENO_ROUTER ? "the group's router is not reachable" : "the router refused",
             NULL);
    } else if (answer->type != PEAL_F_PRESENCE) {
        fail(call, PEAL_EINTERNAL, "the router answered something else", NULL);
    } else if (call->kind == PEAL_GATE_USER) {
        user_answer(call, answer);
    } else {
        presence_answer(call, answer);
    }
}

static void presence(struct peal_api_call *call, const struct peal_gate *gate)
{
    struct peal_span group = peal_buf_span(&gate->group);
    struct peal_frame who = {
        .type = PEAL_F_WHO, .group = group, .offset = gate->after, .limit = gate->limit};
    peal_request_init(&call->request, who_answered);
    enum peal_err err = peal_request_send(call->hub, &call->request, group, &who);
    if (err != PEAL_OK) fail(call, err, sentence_of(err), NULL);
}

static void user(struct peal_api_call *call)
{
    struct peal_frame who = {.type = PEAL_F_WHO};
    peal_request_init(&call->request, who_answered);
    ask(call, &who);
}

/* ---- what browsers get in dev mode --------------------------------------------------------- */

static void sign(struct peal_api_call *call, struct peal_span user)
{
    struct peal_buf token = {0};
    char *name = strndup(user.at, user.size);
    struct peal_claims claims = {.user = name, .expires_ms = call->hub->wall_ms + TOKEN_TTL_MS};
    enum peal_err err = PEAL_ENOMEM;
    if (name != NULL)
        err = peal_token_sign(call->shared->token_secret, &claims,
                              call->hub->config->auth.user_claim, call->hub->wall_ms, &token);
    free(name);
    if (err != PEAL_OK || token.failed) {
        peal_buf_fini(&token);
        fail(call, PEAL_EINTERNAL, "the token could not be made", NULL);
        return;
    }
    peal_render_string(&call->answer.body, "{\"token\":", peal_buf_span(&token));
    add(&call->answer.body, "}");
    peal_buf_fini(&token);
    finish_json(call, 200);
}

static void make_token(struct peal_api_call *call, struct peal_span body)
{
    struct peal_json json;
    char why[160] = "";
    enum peal_err err = peal_json_check(body, why, sizeof why);
    if (err != PEAL_OK) {
        fail(call, err, why, NULL);
        return;
    }
    const struct peal_json_field *user =
        peal_json_object(body, &json) == PEAL_OK ? peal_json_get(&json, "user") : NULL;
    if (user == NULL) {
        fail(call, PEAL_EMISSING_FIELD, "send an object with user", "user");
        return;
    }
    struct peal_buf group = {0};
    struct peal_span name = {0};
    err = peal_json_string(user->value, &call->user);
    name = peal_buf_span(&call->user);
    /* A name with a NUL in it is none; beyond this check it is also a C string. */
    if (err == PEAL_OK) err = peal_group_of_user(name, &group);
    peal_buf_fini(&group);
    if (err == PEAL_OK)
        sign(call, name);
    else
        fail(call, PEAL_EBAD_FIELD,
             "a user name has 1..195 bytes of UTF-8 without control characters", "user");
}

/* ---- life -------------------------------------------------------------------------------- */

void peal_api_init(struct peal_api_call *call, struct peal_hub *hub,
                   const struct peal_http_shared *shared)
{
    *call = (struct peal_api_call){.hub = hub, .shared = shared};
    peal_request_init(&call->request, inbox_answered);
    peal_pubcall_init(&call->publish, hub);
}

void peal_api_fini(struct peal_api_call *call)
{
    peal_request_cancel(call->hub, &call->request);
    peal_pubcall_fini(&call->publish);
    peal_buf_fini(&call->user);
    peal_buf_fini(&call->answer.body);
    peal_api_init(call, call->hub, call->shared);
}

void peal_api_start(struct peal_api_call *call, const struct peal_gate *gate, struct peal_span body,
                    void (*done)(void *ctx), void *ctx)
{
    struct peal_buf *out = &call->answer.body;
    bool ready = false;
    call->kind = gate->call;
    call->done = done;
    call->ctx = ctx;
    peal_buf_add_span(&call->user, peal_buf_span(&gate->user));
    switch (gate->call) {
    case PEAL_GATE_LIVEZ:
        add(out, "{\"live\":true}");
        finish_json(call, 200);
        return;
    case PEAL_GATE_READYZ:
        ready = atomic_load(call->shared->ready) && !peal_http_leaving(call->shared);
        add(out, ready ? "{\"ready\":true}" : "{\"ready\":false}");
        finish_json(call, ready ? 200 : 503);
        return;
    case PEAL_GATE_METRICS:
        peal_metrics_render(out);
        finish(call, 200, "text/plain; version=0.0.4");
        return;
    case PEAL_GATE_PUBLISH:
        publish(call, body);
        return;
    case PEAL_GATE_INBOX:
        inbox(call, gate);
        return;
    case PEAL_GATE_ACK:
    case PEAL_GATE_READ:
        mark(call, body);
        return;
    case PEAL_GATE_PRESENCE:
        presence(call, gate);
        return;
    case PEAL_GATE_USER:
        user(call);
        return;
    case PEAL_GATE_PAGE:
        peal_buf_add_span(out, call->shared->demo_page);
        finish(call, 200, "text/html; charset=utf-8");
        return;
    case PEAL_GATE_TOKEN:
        make_token(call, body);
        return;
    }
}
