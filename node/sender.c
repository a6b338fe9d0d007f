/* The requests carry MSG_DONTWAIT, so the kernel finishes each of them while it is submitted and
 * none is left behind when the call returns. Only answers that came are believed: what the ring
 * did not take, because it failed, is sent with send(), and the ring is given up. */
#include "node/sender.h"

#include <errno.h>
#include <liburing.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/assert.h"
#include "base/log.h"

enum {
    FLAGS = MSG_NOSIGNAL | MSG_DONTWAIT,
    RING_MIN = 4,      /* for fewer the ring brings nothing */
    PENDING = INT_MIN, /* no answer yet */
};

struct peal_sender {
    bool wanted; /* the ring is to be tried */
    bool up;
    struct io_uring ring;
};

struct peal_sender *peal_sender_new(bool io_uring)
{
    struct peal_sender *sender = calloc(1, sizeof *sender);
    if (sender != NULL) sender->wanted = io_uring;
    return sender;
}

static void give_up(struct peal_sender *sender, const char *step, int error)
{
    if (sender->up) io_uring_queue_exit(&sender->ring);
    sender->up = false;
    sender->wanted = false;
    peal_log(PEAL_LOG_INFO, "io_uring.off", "step=%s error=\"%s\"", step, strerror(error));
}

void peal_sender_free(struct peal_sender *sender)
{
    if (sender == NULL) return;
    if (sender->up) io_uring_queue_exit(&sender->ring);
    free(sender);
}

bool peal_sender_uses_ring(const struct peal_sender *sender)
{
    return sender->up;
}

/* In the worker's own thread: a ring of a single issuer belongs to the thread that makes it. */
static void begin_ring(struct peal_sender *sender)
{
    struct io_uring_params params = {.flags =
                                         IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN};
    int rc = io_uring_queue_init_params(PEAL_SENDS_MAX, &sender->ring, &params);
    if (rc == -EINVAL) rc = io_uring_queue_init(PEAL_SENDS_MAX, &sender->ring, 0); /* older */
    sender->up = rc == 0;
    if (!sender->up) {
        give_up(sender, "setup", -rc);
        return;
    }
    struct io_uring_probe *probe = io_uring_get_probe_ring(&sender->ring);
    bool can_send = probe != NULL && io_uring_opcode_supported(probe, IORING_OP_SEND);
    io_uring_free_probe(probe);
    if (!can_send) give_up(sender, "probe", EOPNOTSUPP); /* before Linux 5.6 */
}

static void take_answers(struct peal_sender *sender, struct peal_send *sends, size_t count)
{
    struct io_uring_cqe *answer;
    while (io_uring_peek_cqe(&sender->ring, &answer) == 0) {
        uint64_t index = io_uring_cqe_get_data64(answer);
        PEAL_ASSERT(index < count);
        sends[index].result = answer->res;
        io_uring_cqe_seen(&sender->ring, answer);
    }
}

static void run_ring(struct peal_sender *sender, struct peal_send *sends, size_t count)
{
    size_t submitted = 0;
    for (size_t i = 0; i < count; i++) {
        struct io_uring_sqe *request = io_uring_get_sqe(&sender->ring);
        PEAL_ASSERT(request != NULL); /* the ring is empty between two calls */
        io_uring_prep_send(request, sends[i].fd, sends[i].at, sends[i].size, FLAGS);
        io_uring_sqe_set_data64(request, i);
        sends[i].result = PENDING;
    }
    while (submitted < count) {
        int rc = io_uring_submit_and_wait(&sender->ring, (unsigned)(count - submitted));
        if (rc == -EINTR) continue;
        if (rc <= 0) {
            take_answers(sender, sends, count);
            give_up(sender, "submit", rc == 0 ? EIO : -rc);
            return;
        }
        submitted += (size_t)rc;
        take_answers(sender, sends, count);
    }
    /* A signal may have ended the wait before the last answer was there. */
    for (size_t i = 0; i < count; i++) {
        struct io_uring_cqe *answer;
        while (sends[i].result == PENDING) {
            int rc = io_uring_wait_cqe(&sender->ring, &answer);
            PEAL_ASSERT(rc == 0 || rc == -EINTR);
            take_answers(sender, sends, count);
        }
    }
}

/* The ring did not do it: it was not asked, or it cannot. */
static bool is_refusal(int result)
{
    return result == PENDING || result == -EINTR || result == -EINVAL || result == -EOPNOTSUPP;
}

void peal_sender_run(struct peal_sender *sender, struct peal_send *sends, size_t count)
{
    PEAL_ASSERT(count <= PEAL_SENDS_MAX);
    if (sender->wanted && !sender->up && count >= RING_MIN) begin_ring(sender);
    bool ring = sender->up && count >= RING_MIN;
    if (ring) run_ring(sender, sends, count);
    for (size_t i = 0; i < count; i++) {
        if (ring && !is_refusal(sends[i].result)) continue;
        ssize_t n;
        do {
            n = send(sends[i].fd, sends[i].at, sends[i].size, FLAGS);
        } while (n < 0 && errno == EINTR);
        sends[i].result = n < 0 ? -errno : (int)n;
    }
}
