/* The commands are those of a queue per user: RPUSH is the cheapest that keeps a message, XADD also
 * numbers it, as an inbox does. Answers come in the order of the commands. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "bench/sink.h"

enum { READ_BYTES = 64 * 1024 };

struct redis {
    int fd;
    struct peal_buf out;
    struct peal_buf in; /* the beginning of an answer that is not complete */
    uint32_t *ring;     /* slots in the order of their commands */
    uint32_t first;
    uint32_t count;
};

static enum peal_err redis_open(struct peal_sink *sink)
{
    struct redis *redis = calloc(1, sizeof(*redis));
    sink->self = redis;
    if (redis == NULL) return peal_sink_fail(sink, PEAL_ENOMEM, "redis", "memory");
    redis->ring = calloc(sink->plan->slots, sizeof(*redis->ring));
    redis->fd = peal_sink_connect(sink);
    if (redis->ring == NULL) return peal_sink_fail(sink, PEAL_ENOMEM, "redis", "memory");
    return redis->fd < 0 ? PEAL_EIO : PEAL_OK;
}

static void redis_close(struct peal_sink *sink)
{
    struct redis *redis = sink->self;
    if (redis == NULL) return;
    if (redis->fd >= 0) close(redis->fd);
    peal_buf_fini(&redis->out);
    peal_buf_fini(&redis->in);
    free(redis->ring);
    free(redis);
}

static void add_word(struct peal_buf *out, struct peal_span word)
{
    peal_buf_add_format(out, "$%zu\r\n", word.size);
    peal_buf_add_span(out, word);
    peal_buf_add_text(out, "\r\n");
}

static enum peal_err redis_put(struct peal_sink *sink, uint32_t user, uint32_t slot,
                               struct peal_span payload)
{
    struct redis *redis = sink->self;
    char name[PEAL_KEEP_NAME_MAX];
    struct peal_span key = {name, peal_sink_user(user, name)};
    bool stream = sink->plan->xadd;
    peal_buf_add_text(&redis->out, stream ? "*5\r\n$4\r\nXADD\r\n" : "*3\r\n$5\r\nRPUSH\r\n");
    add_word(&redis->out, key);
    if (stream) peal_buf_add_text(&redis->out, "$1\r\n*\r\n$1\r\nm\r\n");
    add_word(&redis->out, payload);
    redis->ring[(redis->first + redis->count++) % sink->plan->slots] = slot;
    return redis->out.failed ? peal_sink_fail(sink, PEAL_ENOMEM, "redis", "memory") : PEAL_OK;
}

static enum peal_err redis_flush(struct peal_sink *sink)
{
    struct redis *redis = sink->self;
    for (size_t done = 0; done < redis->out.size;) {
        ssize_t sent = send(redis->fd, redis->out.at + done, redis->out.size - done, MSG_NOSIGNAL);
        if (sent < 0) return peal_sink_fail(sink, PEAL_EIO, "redis", strerror(errno));
        done += (size_t)sent;
    }
    redis->out.size = 0;
    return PEAL_OK;
}

/* The size of the answer that the bytes begin with; 0: it is not complete. Answers are `:n`,
 * `$n` with n bytes behind, or `-why`. */
static size_t answer_size(const char *at, size_t size)
{
    const char *end = memchr(at, '\n', size);
    if (end == NULL) return 0;
    size_t line = (size_t)(end + 1 - at);
    if (at[0] != '$') return line;
    size_t whole = line + strtoul(at + 1, NULL, 10) + 2;
    return whole <= size ? whole : 0;
}

static enum peal_err take_answers(struct peal_sink *sink)
{
    struct redis *redis = sink->self;
    size_t done = 0;
    size_t size;
    while (done < redis->in.size &&
           (size = answer_size(redis->in.at + done, redis->in.size - done)) > 0) {
        const char *at = redis->in.at + done;
        if (redis->count == 0) return peal_sink_fail(sink, PEAL_EIO, "redis", "nobody asked");
        if (at[0] == '-') {
            size_t words = size - 3 < 200 ? size - 3 : 200;
            char text[201];
            memcpy(text, at + 1, words);
            text[words] = '\0';
            return peal_sink_fail(sink, PEAL_EIO, "redis", text);
        }
        uint32_t slot = redis->ring[redis->first];
        redis->first = (redis->first + 1) % sink->plan->slots;
        redis->count--;
        sink->on_answer(sink->ctx, slot, true);
        done += size;
    }
    memmove(redis->in.at, redis->in.at + done, redis->in.size - done);
    redis->in.size -= done;
    return PEAL_OK;
}

static enum peal_err redis_take(struct peal_sink *sink, int wait_ms)
{
    struct redis *redis = sink->self;
    struct pollfd ready = {.fd = redis->fd, .events = POLLIN};
    if (poll(&ready, 1, wait_ms) <= 0) return PEAL_OK;
    char *to = peal_buf_reserve(&redis->in, READ_BYTES);
    if (to == NULL) return peal_sink_fail(sink, PEAL_ENOMEM, "redis", "memory");
    ssize_t got = recv(redis->fd, to, READ_BYTES, 0);
    if (got <= 0)
        return peal_sink_fail(sink, PEAL_EIO, "redis", got == 0 ? "the end" : strerror(errno));
    redis->in.size += (size_t)got;
    return take_answers(sink);
}

const struct peal_sink_kind peal_sink_redis = {
    .name = "redis",
    .open = redis_open,
    .put = redis_put,
    .flush = redis_flush,
    .take = redis_take,
    .close = redis_close,
};
