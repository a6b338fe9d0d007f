#include "node/sender.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/unit/unit.h"

enum { PAIRS = 8 };

struct world {
    struct peal_sender *sender;
    int ours[PAIRS];
    int theirs[PAIRS];
};

static struct world *world_new(bool io_uring)
{
    static struct world w;
    peal_log_set_level(PEAL_LOG_ERROR);
    w.sender = peal_sender_new(io_uring);
    assert_non_null(w.sender);
    for (int i = 0; i < PAIRS; i++) {
        int fds[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        w.ours[i] = fds[0];
        w.theirs[i] = fds[1];
    }
    return &w;
}

static int by_calls(void **state)
{
    *state = world_new(false);
    return 0;
}

static int by_ring(void **state)
{
    *state = world_new(true);
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    peal_sender_free(w->sender);
    for (int i = 0; i < PAIRS; i++) {
        close(w->ours[i]);
        if (w->theirs[i] >= 0) close(w->theirs[i]);
    }
    return 0;
}

static void expect_read(int fd, const char *text)
{
    char got[64];
    ssize_t n = recv(fd, got, sizeof got, MSG_DONTWAIT);
    assert_int_equal(n, strlen(text));
    assert_memory_equal(got, text, strlen(text));
}

/* Sends texts[i] to pair i; NULL leaves it out. */
static void run(struct world *w, const char *const *texts, struct peal_send *sends, size_t *count)
{
    *count = 0;
    for (int i = 0; i < PAIRS; i++) {
        if (texts[i] == NULL) continue;
        sends[(*count)++] = (struct peal_send){
            .fd = w->ours[i], .at = texts[i], .size = (uint32_t)strlen(texts[i])};
    }
    peal_sender_run(w->sender, sends, *count);
}

static void sender_gives_each_socket_its_own(void **state)
{
    struct world *w = *state;
    static const char *const texts[PAIRS] = {"a", "bb", "ccc", "d", "e", "ff", "g", "h"};
    struct peal_send sends[PAIRS];
    size_t count;
    for (int round = 0; round < 100; round++) { /* the ring is used again and again */
        run(w, texts, sends, &count);
        for (int i = 0; i < PAIRS; i++) {
            assert_int_equal(sends[i].result, strlen(texts[i]));
            expect_read(w->theirs[i], texts[i]);
        }
    }
}

static void sender_of_nothing_or_of_one_works(void **state)
{
    struct world *w = *state;
    static const char *const texts[PAIRS] = {NULL, NULL, "alone"};
    struct peal_send sends[PAIRS];
    size_t count;
    peal_sender_run(w->sender, sends, 0);
    run(w, texts, sends, &count);
    assert_int_equal(sends[0].result, 5);
    expect_read(w->theirs[2], "alone");
}

static void sender_says_what_became_of_each(void **state)
{
    struct world *w = *state;
    static char large[1 << 20];
    struct peal_send sends[PAIRS];
    /* 0 takes all, 1 is full, 2 takes a part, 3's peer is gone, 4 is no socket, 5 is no file. */
    int one = 1;
    setsockopt(w->ours[1], SOL_SOCKET, SO_SNDBUF, &one, sizeof one);
    while (send(w->ours[1], large, sizeof large, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
    }
    close(w->theirs[3]);
    w->theirs[3] = -1;
    int file = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert_true(file >= 0);
    for (int i = 0; i < 6; i++)
        sends[i] = (struct peal_send){.fd = w->ours[i], .at = "text", .size = 4};
    sends[2].at = large;
    sends[2].size = sizeof large;
    sends[4].fd = file;
    sends[5].fd = 1 << 20;
    peal_sender_run(w->sender, sends, 6);
    assert_int_equal(sends[0].result, 4);
    assert_int_equal(sends[1].result, -EAGAIN);
    assert_in_range(sends[2].result, 1, sizeof large - 1);
    assert_int_equal(sends[3].result, -EPIPE);
    assert_int_equal(sends[4].result, -ENOTSOCK);
    assert_int_equal(sends[5].result, -EBADF);
    expect_read(w->theirs[0], "text");
    close(file);
}

static void sender_takes_as_many_as_it_says(void **state)
{
    struct world *w = *state;
    static struct peal_send sends[PEAL_SENDS_MAX];
    int fds[PEAL_SENDS_MAX][2];
    for (int i = 0; i < PEAL_SENDS_MAX; i++) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds[i]), 0);
        sends[i] = (struct peal_send){.fd = fds[i][0], .at = &sends[i], .size = 1};
    }
    peal_sender_run(w->sender, sends, PEAL_SENDS_MAX);
    for (int i = 0; i < PEAL_SENDS_MAX; i++) {
        assert_int_equal(sends[i].result, 1);
        close(fds[i][0]);
        close(fds[i][1]);
    }
}

static void sender_that_may_not_use_the_ring_does_not(void **state)
{
    struct world *w = *state;
    sender_gives_each_socket_its_own(state);
    assert_false(peal_sender_uses_ring(w->sender));
}

/* Whether a ring can be had here; without one the tests above were of send() alone. */
static void sender_uses_the_ring_where_there_is_one(void **state)
{
    struct world *w = *state;
    sender_gives_each_socket_its_own(state);
    if (!peal_sender_uses_ring(w->sender)) skip();
}

static void sender_without_a_ring_to_be_had_uses_calls(void **state)
{
    struct world *w = *state;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    sender_gives_each_socket_its_own(state);
    assert_false(peal_sender_uses_ring(w->sender));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    sender_gives_each_socket_its_own(state);
    assert_false(peal_sender_uses_ring(w->sender)); /* it is not tried again and again */
}

#define CALLS(name)                                                                                \
    {                                                                                              \
#name "_by_calls", name, by_calls, teardown, NULL                                          \
    }
#define RING(name)                                                                                 \
    {                                                                                              \
#name "_by_ring", name, by_ring, teardown, NULL                                            \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        CALLS(sender_gives_each_socket_its_own),
        RING(sender_gives_each_socket_its_own),
        CALLS(sender_of_nothing_or_of_one_works),
        RING(sender_of_nothing_or_of_one_works),
        CALLS(sender_says_what_became_of_each),
        RING(sender_says_what_became_of_each),
        CALLS(sender_takes_as_many_as_it_says),
        RING(sender_takes_as_many_as_it_says),
        CALLS(sender_that_may_not_use_the_ring_does_not),
        RING(sender_uses_the_ring_where_there_is_one),
        RING(sender_without_a_ring_to_be_had_uses_calls),
    };
    return cmocka_run_group_tests_name("sender", tests, NULL, NULL);
}
