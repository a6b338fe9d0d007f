/* The parts of peal-keep: what they get wrong, every benchmark of the store gets wrong. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "bench/acks.h"
#include "bench/answer.h"
#include "bench/sink.h"
#include "tests/unit/unit.h"

/* In the place of libc's, see tests/unit/disk.h. */
static _Atomic int sync_errno;

int fdatasync(int fd)
{
    if (sync_errno == 0) return (int)syscall(SYS_fdatasync, fd);
    errno = sync_errno;
    return -1;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

static int folder_setup(void **state)
{
    const char *tmp = getenv("TMPDIR");
    char *path = NULL;
    if (asprintf(&path, "%s/peal-keep-XXXXXX", tmp == NULL ? "/tmp" : tmp) < 0) return -1;
    *state = mkdtemp(path);
    sync_errno = 0;
    return *state == NULL ? -1 : 0;
}

static int folder_teardown(void **state)
{
    int code = nftw(*state, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return code;
}

/* ---- Acks --------------------------------------------------------------------------------- */

enum { MS = 1000000 };

static void acks_come_once_each_and_within_their_time(void **state)
{
    (void)state;
    enum { COUNT = 2000, MOST_MS = 1000 };
    struct peal_acks acks;
    unsigned seen[COUNT] = {0};
    uint64_t start = 5000 * (uint64_t)MS;
    uint32_t early = 0;
    peal_acks_init(&acks, MOST_MS, start);
    assert_null(peal_acks_due(&acks, start));
    for (uint32_t i = 0; i < COUNT; i++)
        assert_true(peal_acks_add(&acks, (struct peal_ack){.user = i}, start));
    for (uint64_t now = start; now <= start + MOST_MS * (uint64_t)MS; now += MS) {
        const struct peal_ack *ack;
        while ((ack = peal_acks_due(&acks, now)) != NULL) {
            /* It stays until it is dropped. */
            assert_ptr_equal(peal_acks_due(&acks, now), ack);
            seen[ack->user]++;
            if (now < start + MOST_MS / 2 * (uint64_t)MS) early++;
            peal_acks_drop(&acks);
        }
    }
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(seen[i], 1);
    assert_in_range(early, COUNT / 3, COUNT * 2 / 3);
    peal_acks_fini(&acks);
}

static void acks_that_nobody_took_in_time_are_not_lost(void **state)
{
    (void)state;
    struct peal_acks acks;
    uint32_t came = 0;
    peal_acks_init(&acks, 100, 0);
    for (uint64_t now = 0; now < 1000 * (uint64_t)MS; now += 50 * MS)
        assert_true(peal_acks_add(&acks, (struct peal_ack){0}, now));
    while (peal_acks_due(&acks, 2000 * (uint64_t)MS) != NULL) {
        peal_acks_drop(&acks);
        came++;
    }
    assert_int_equal(came, 20);
    peal_acks_fini(&acks);
}

/* ---- Answers of the door ------------------------------------------------------------------ */

static void answer_tells_stored_from_routed_and_refused(void **state)
{
    (void)state;
    static const char stored[] = "\x82\xa3req\x07\xa7results\x91\x81\xa3"
                                 "ack\xa6stored";
    static const char routed[] = "\x82\xa3req\x08\xa7results\x91\x81\xa3"
                                 "ack\xa6routed";
    static const char refused[] = "\x82\xa3req\x09\xa7results\x91\x81\xa5"
                                  "error\x80";
    static const char whole[] = "\x82\xa3req\x0a\xa5"
                                "error\x80";
    static const struct {
        struct peal_span bytes;
        uint64_t req;
        bool taken;
        bool kept;
    } rows[] = {{{stored, sizeof(stored) - 1}, 7, true, true},
                {{routed, sizeof(routed) - 1}, 8, true, false},
                {{refused, sizeof(refused) - 1}, 9, false, false},
                {{whole, sizeof(whole) - 1}, 10, false, false}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct peal_answer said;
        assert_true(peal_answer_read(rows[i].bytes, &said));
        assert_int_equal(said.req, rows[i].req);
        assert_int_equal(said.taken, rows[i].taken);
        assert_int_equal(said.stored, rows[i].kept);
        for (size_t size = 0; size < rows[i].bytes.size; size++)
            assert_false(peal_answer_read(peal_span_make(rows[i].bytes.at, size), &said));
    }
}

/* ---- Sinks -------------------------------------------------------------------------------- */

enum { SLOTS = 64, USERS = 5 };

struct rig {
    struct peal_keep_plan plan;
    struct peal_sink sink;
    uint32_t stored[SLOTS];
    uint32_t answers;
    uint32_t refused;
    char endpoint[64];
    char path[512];
};

static void on_answer(void *ctx, uint32_t slot, bool stored)
{
    struct rig *rig = ctx;
    assert_in_range(slot, 0, SLOTS - 1);
    rig->answers++;
    if (stored)
        rig->stored[slot]++;
    else
        rig->refused++;
}

static void rig_init(struct rig *rig, const struct peal_sink_kind *kind)
{
    *rig = (struct rig){.plan = {.into = kind,
                                 .slots = SLOTS,
                                 .users = USERS,
                                 .seed = 1,
                                 .acked_ms = 10,
                                 .check = kind == &peal_sink_store}};
    rig->sink =
        (struct peal_sink){.kind = kind, .plan = &rig->plan, .on_answer = on_answer, .ctx = rig};
}

static void rig_put_all(struct rig *rig)
{
    const struct peal_sink_kind *kind = rig->sink.kind;
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        assert_int_equal(
            kind->put(&rig->sink, slot % USERS, slot, peal_span_of("0123456789abcdef")), PEAL_OK);
    assert_int_equal(kind->flush(&rig->sink), PEAL_OK);
    for (uint32_t tries = 0; rig->answers < SLOTS && tries < 1000; tries++)
        assert_int_equal(kind->take(&rig->sink, 20), PEAL_OK);
    assert_int_equal(rig->answers, SLOTS);
}

static void assert_each_stored_once(const struct rig *rig)
{
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        assert_int_equal(rig->stored[slot], 1);
}

static void file_answers_only_for_what_is_synced(void **state)
{
    struct rig rig;
    rig_init(&rig, &peal_sink_file);
    rig.plan.folder = *state;
    assert_int_equal(peal_sink_file.open(&rig.sink), PEAL_OK);
    rig_put_all(&rig);
    assert_each_stored_once(&rig);
    sync_errno = EIO;
    assert_int_equal(peal_sink_file.put(&rig.sink, 0, 0, peal_span_of("x")), PEAL_OK);
    assert_int_equal(peal_sink_file.flush(&rig.sink), PEAL_EIO);
    sync_errno = 0;
    assert_non_null(strstr(rig.sink.why, "file: "));
    peal_sink_file.close(&rig.sink);
}

/* A server of SLOTS commands that answers byte by byte, so that answers come in pieces. */
struct server {
    int fd;
    const char *answer;
    uint32_t commands; /* how often the word of the command came */
    const char *word;
};

static void *server_run(void *ctx)
{
    struct server *server = ctx;
    char in[64 * 1024];
    size_t size = 0;
    int fd = accept(server->fd, NULL, NULL);
    while (server->commands < SLOTS) {
        ssize_t got = recv(fd, in + size, sizeof(in) - 1 - size, 0);
        if (got <= 0) break;
        size += (size_t)got;
        in[size] = '\0';
        server->commands = 0;
        for (const char *at = in; (at = strstr(at, server->word)) != NULL; at++)
            server->commands++;
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    for (uint32_t i = 0; i < SLOTS; i++)
        for (const char *at = server->answer; *at != '\0'; at++)
            (void)!send(fd, at, 1, MSG_NOSIGNAL);
    close(fd);
    return NULL;
}

static void server_start(struct server *server, struct rig *rig, pthread_t *thread)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server->fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(server->fd, 1), 0);
    assert_int_equal(getsockname(server->fd, (struct sockaddr *)&address, &size), 0);
    snprintf(rig->endpoint, sizeof(rig->endpoint), "tcp://127.0.0.1:%u", ntohs(address.sin_port));
    rig->plan.endpoint = rig->endpoint;
    assert_int_equal(pthread_create(thread, NULL, server_run, server), 0);
}

static void redis_reads_answers_that_come_in_pieces(void **state)
{
    (void)state;
    static const struct server servers[] = {
        {.answer = ":12\r\n", .word = "RPUSH"},
        {.answer = "$15\r\n1526919030474-0\r\n", .word = "XADD"},
    };
    for (size_t i = 0; i < 2; i++) {
        struct server server = servers[i];
        struct rig rig;
        pthread_t thread;
        rig_init(&rig, &peal_sink_redis);
        rig.plan.xadd = i == 1;
        server_start(&server, &rig, &thread);
        assert_int_equal(peal_sink_redis.open(&rig.sink), PEAL_OK);
        rig_put_all(&rig);
        assert_each_stored_once(&rig);
        pthread_join(thread, NULL);
        assert_int_equal(server.commands, SLOTS);
        assert_int_equal(peal_sink_redis.take(&rig.sink, 1000), PEAL_EIO); /* the end */
        peal_sink_redis.close(&rig.sink);
        close(server.fd);
    }
}

static void redis_that_refuses_is_an_error_with_its_words(void **state)
{
    (void)state;
    struct server server = {.answer = "-OOM command not allowed\r\n", .word = "RPUSH"};
    struct rig rig;
    pthread_t thread;
    rig_init(&rig, &peal_sink_redis);
    server_start(&server, &rig, &thread);
    assert_int_equal(peal_sink_redis.open(&rig.sink), PEAL_OK);
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        assert_int_equal(peal_sink_redis.put(&rig.sink, 0, slot, peal_span_of("x")), PEAL_OK);
    assert_int_equal(peal_sink_redis.flush(&rig.sink), PEAL_OK);
    enum peal_err err = PEAL_OK;
    for (uint32_t tries = 0; err == PEAL_OK && tries < 1000; tries++)
        err = peal_sink_redis.take(&rig.sink, 20);
    assert_int_equal(err, PEAL_EIO);
    assert_string_equal(rig.sink.why, "redis: OOM command not allowed");
    assert_int_equal(rig.answers, 0);
    peal_sink_redis.close(&rig.sink);
    pthread_join(thread, NULL);
    close(server.fd);
}

/* A configuration that keeps so many messages of each user. */
static void write_config(struct rig *rig, const char *dir, unsigned keeps)
{
    snprintf(rig->path, sizeof(rig->path), "%s/config.yaml", dir);
    FILE *file = fopen(rig->path, "we");
    assert_non_null(file);
    fprintf(file,
            "data: %s/data\nstore: {max: 64MiB}\n"
            "groups: [{match: \"user:{id}\", durable: true, keep: {messages: %u, settled: 0s}}]\n",
            dir, keeps);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(rig->path, 0600), 0);
    rig->plan.config = rig->path;
}

static void store_that_keeps_everything_passes_its_check(void **state)
{
    struct rig rig;
    rig_init(&rig, &peal_sink_store);
    rig.plan.acked = 100;
    write_config(&rig, *state, 1000);
    assert_int_equal(peal_sink_store.open(&rig.sink), PEAL_OK);
    rig_put_all(&rig); /* not measured, so nobody acks it */
    assert_each_stored_once(&rig);
    rig.sink.measuring = true;
    rig.answers = 0;
    rig_put_all(&rig);
    rig.sink.measuring = false;
    for (uint32_t tries = 0; rig.sink.acks < SLOTS && tries < 1000; tries++) {
        assert_int_equal(peal_sink_store.flush(&rig.sink), PEAL_OK);
        assert_int_equal(peal_sink_store.take(&rig.sink, 5), PEAL_OK);
    }
    assert_int_equal(rig.sink.acks, SLOTS);
    assert_int_equal(peal_sink_store.check(&rig.sink), PEAL_OK);
    assert_int_equal(rig.sink.lost, 0);
    assert_int_equal(rig.sink.miscounted, 0);
    peal_sink_store.close(&rig.sink);
}

static void store_that_let_something_go_is_found_out(void **state)
{
    struct rig rig;
    rig_init(&rig, &peal_sink_store);
    write_config(&rig, *state, 2);
    assert_int_equal(peal_sink_store.open(&rig.sink), PEAL_OK);
    rig_put_all(&rig);
    assert_int_equal(peal_sink_store.check(&rig.sink), PEAL_OK);
    assert_int_equal(rig.sink.lost, 0); /* they were stored, and evicted */
    assert_int_equal(rig.sink.miscounted, USERS);
    peal_sink_store.close(&rig.sink);
}

static void plan_refuses_what_does_not_fit(void **state)
{
    (void)state;
    static const char *const bad[][6] = {
        {"peal-keep", NULL},
        {"peal-keep", "--into", "tape", NULL},
        {"peal-keep", "--into", "door", NULL},
        {"peal-keep", "--into", "redis", "--endpoint", "127.0.0.1:1", NULL},
        {"peal-keep", "--into", "store", NULL},
        {"peal-keep", "--into", "file", NULL},
    };
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int kept = dup(STDERR_FILENO);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct peal_keep_plan plan;
        char *argv[7] = {NULL};
        int argc = 0;
        for (; argc < 6 && bad[i][argc] != NULL; argc++)
            argv[argc] = strdup(bad[i][argc]);
        optind = 0; /* another command line */
        dup2(null, STDERR_FILENO);
        int code = peal_keep_plan_read(&plan, argc, argv);
        dup2(kept, STDERR_FILENO);
        assert_int_equal(code, 64);
        for (int at = 0; at < argc; at++)
            free(argv[at]);
    }
    close(null);
    close(kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, folder_setup, folder_teardown)
        T(acks_come_once_each_and_within_their_time),
        T(acks_that_nobody_took_in_time_are_not_lost),
        T(answer_tells_stored_from_routed_and_refused),
        T(file_answers_only_for_what_is_synced),
        T(redis_reads_answers_that_come_in_pieces),
        T(redis_that_refuses_is_an_error_with_its_words),
        T(store_that_keeps_everything_passes_its_check),
        T(store_that_let_something_go_is_found_out),
        T(plan_refuses_what_does_not_fit),
#undef T
    };
    return cmocka_run_group_tests_name("keep", tests, NULL, NULL);
}
