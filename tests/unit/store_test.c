#include "storage/store.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/group.h"
#include "storage/keys.h"
#include "tests/unit/unit.h"

#include "tests/unit/store_rig.h"

static struct rig rig;

static int rig_setup(void **state)
{
    if (folder_setup(state) != 0) return -1;
    rig_init(&rig, &contract_local, ((struct folder *)*state)->path);
    return 0;
}

static int rig_teardown(void **state)
{
    if (rig.store != NULL) rig_close(&rig);
    return folder_teardown(state);
}

static struct ask all_of(const char *group)
{
    return (struct ask){group, peal_store_generation(rig.store), 0, 0, 0, 0};
}

static const char *text_of(const char *group)
{
    struct ask ask = all_of(group);
    return rig_text(&rig, &ask);
}

static void store_mark_of_nothing_creates_nothing(void **state)
{
    (void)state;
    rig_open(&rig);
    int64_t commits = peal_metrics_sum(PEAL_M_COMMITS);
    struct peal_store_op op = rig_ack(&rig, "user:a", 100);
    assert_int_equal(op.err, PEAL_OK);
    assert_false(op.changed);
    assert_int_equal(op.rev, 0);
    assert_int_equal(peal_metrics_sum(PEAL_M_COMMITS), commits);

    rig_put(&rig, "user:a", NULL, "x");
    assert_true(rig_ack(&rig, "user:a", 100).changed);
    commits = peal_metrics_sum(PEAL_M_COMMITS);
    assert_false(rig_ack(&rig, "user:a", 100).changed); /* no bit changed: nothing is written */
    assert_int_equal(peal_metrics_sum(PEAL_M_COMMITS), commits);
}

static void store_waiting_operations_share_one_commit_in_order(void **state)
{
    (void)state;
    enum { COUNT = 500 };
    struct peal_store_op *ops[COUNT];
    struct message a = {"user:a", NULL, "x", 0, 0};
    rig_open(&rig);
    pthread_mutex_lock(&rig.gate);
    struct peal_store_op *blocker = rig_head_op(&rig, "user:a");
    rig_submit(&rig, blocker);
    for (int i = 0; i < COUNT; i++) {
        ops[i] = i % 5 == 4 ? rig_mark_op(&rig, "user:a", PEAL_FLAG_ACK, (uint64_t)i, NULL, 0)
                            : rig_put_op(&rig, &a);
        rig_submit(&rig, ops[i]);
    }
    int64_t commits = peal_metrics_sum(PEAL_M_COMMITS);
    pthread_mutex_unlock(&rig.gate);

    /* The blocker's batch may have taken some of the first ones. */
    assert_ptr_equal(rig_wait(&rig.done), blocker);
    peal_store_op_free(blocker);
    uint64_t offset = 0;
    for (int i = 0; i < COUNT; i++) {
        struct peal_store_op *op = rig_wait(&rig.done);
        assert_ptr_equal(op, ops[i]);
        assert_int_equal(op->err, PEAL_OK);
        if (op->kind == PEAL_STORE_PUT) assert_int_equal(op->offset, ++offset);
        if (op->kind == PEAL_STORE_MARK) assert_int_equal(op->unread, 0);
        peal_store_op_free(op);
    }
    assert_in_range(peal_metrics_sum(PEAL_M_COMMITS) - commits, 1, 2);
}

/* ---- a full store ----------------------------------------------------------------------- */

static void store_full_map_takes_marks_and_recovers(void **state)
{
    (void)state;
    char data[4000];
    struct message m = {"user:a", NULL, data, sizeof data, 0};
    memset(data, 'x', sizeof data);
    rig.config.store.max = 4 << 20;
    rig.groups[0].keep.messages = PEAL_INBOX_MESSAGES_MAX;
    rig.groups[0].keep.bytes = 1 << 30;
    rig.groups[0].keep.settled_ms = 60000;
    rig_open(&rig);
    uint64_t stored = 0;
    for (;;) {
        struct peal_store_op op = rig_do(&rig, rig_put_op(&rig, &m));
        if (op.err == PEAL_ESTORE_FULL) break;
        assert_int_equal(op.err, PEAL_OK);
        assert_int_equal(op.offset, ++stored);
    }
    assert_in_range(stored, 300, 900);
    for (uint64_t upto = 1; upto <= stored; upto += 7) {
        struct peal_store_op op = rig_ack(&rig, "user:a", upto);
        assert_int_equal(op.err, PEAL_OK);
        assert_true(op.changed);
        assert_int_equal(op.unread, stored - upto);
    }
    rig_ack(&rig, "user:a", stored);
    rig_pass(&rig, 60000);
    rig_pass_until_first(&rig, 0, "user:a", stored + 1);
    for (uint64_t i = 0; i < 300; i++)
        assert_int_equal(rig_put_until_stored(&rig, &m).offset, stored + 1 + i);
}

static void store_low_disk_refuses_puts_only(void **state)
{
    (void)state;
    char data[4000];
    struct message m = {"user:a", NULL, data, sizeof data, 0};
    memset(data, 'x', sizeof data);
    rig.groups[0].keep.settled_ms = 60000;
    rig_open(&rig);
    rig_put(&rig, "user:a", "order-1", "x");
    uint64_t stored = 1;
    for (; stored < 200; stored++)
        assert_int_equal(rig_do(&rig, rig_put_op(&rig, &m)).err, PEAL_OK);

    /* The file may not grow: what is free inside of it is used up first. */
    atomic_store(&disk_free_percent, 9);
    while (rig_do(&rig, rig_put_op(&rig, &m)).err == PEAL_OK)
        assert_true(++stored < 1000);
    assert_int_equal(rig_do(&rig, rig_put_op(&rig, &m)).err, PEAL_ESTORE_FULL);
    assert_int_equal(rig_head(&rig, "user:a").err, PEAL_OK);
    struct peal_store_op again = rig_put(&rig, "user:a", "order-1", "x");
    assert_int_equal(again.err, PEAL_OK); /* it is stored already */
    assert_true(again.duplicate);

    /* What is settled and removed makes room, although the disk is as full as before. */
    assert_true(rig_ack(&rig, "user:a", stored).changed);
    rig_pass(&rig, 60000);
    assert_int_equal(rig_put_until_stored(&rig, &m).err, PEAL_OK);
    atomic_store(&disk_free_percent, 11);
    assert_int_equal(rig_put(&rig, "user:a", NULL, "x").err, PEAL_OK);
}

static void store_message_that_does_not_fit_fails_alone(void **state)
{
    (void)state;
    enum { COUNT = 9, BIG = 4 };
    static char data[3 << 20];
    struct peal_store_op *ops[COUNT];
    struct message small = {"user:a", "id", "x", 0, 0};
    struct message big = {"user:a", "id-big", data, sizeof data, 0};
    memset(data, 'x', sizeof data);
    rig.config.store.max = 2 << 20;
    rig_open(&rig);
    pthread_mutex_lock(&rig.gate);
    rig_submit(&rig, rig_head_op(&rig, "user:a"));
    for (int i = 0; i < COUNT; i++) {
        char id[16];
        snprintf(id, sizeof id, "id-%d", i);
        small.id = id;
        ops[i] = i == BIG ? rig_put_op(&rig, &big) : rig_put_op(&rig, &small);
        rig_submit(&rig, ops[i]);
    }
    pthread_mutex_unlock(&rig.gate);
    peal_store_op_free(rig_wait(&rig.done));
    uint64_t offset = 0;
    for (int i = 0; i < COUNT; i++) {
        struct peal_store_op *op = rig_wait(&rig.done);
        assert_ptr_equal(op, ops[i]);
        assert_int_equal(op->err, i == BIG ? PEAL_ESTORE_FULL : PEAL_OK);
        assert_false(op->duplicate); /* of the batch that was dropped */
        if (i != BIG) assert_int_equal(op->offset, ++offset);
        peal_store_op_free(op);
    }
    assert_string_equal(text_of("user:a"), "M1 M2 M3 M4 M5 M6 M7 M8");
}

static void store_full_disk_acks_nothing_and_recovers(void **state)
{
    (void)state;
    rig_open(&rig);
    rig_put(&rig, "user:a", NULL, "x");
    int64_t stored = peal_metrics_sum(PEAL_M_STORED);
    atomic_store(&disk_write_errno, ENOSPC);
    for (int i = 0; i < 5; i++)
        assert_int_equal(rig_put(&rig, "user:a", NULL, "x").err, PEAL_ESTORE_FULL);
    atomic_store(&disk_write_errno, EIO);
    atomic_store(&disk_is_full, true);
    assert_int_equal(rig_ack(&rig, "user:a", 1).err, PEAL_ESTORE_FULL);
    disk_reset();
    assert_int_equal(peal_metrics_sum(PEAL_M_STORED), stored);
    assert_int_equal(rig_put(&rig, "user:a", NULL, "x").offset, 2);
    rig_reopen(&rig);
    assert_string_equal(text_of("user:a"), "M1 M2");
}

/* ---- a broken disk, another writer ------------------------------------------------------ */

static void store_failed_sync_stops_acks_until_restart(void **state)
{
    (void)state;
    rig_open(&rig);
    rig_put(&rig, "user:a", NULL, "x");
    atomic_store(&disk_sync_errno, EIO);
    assert_int_equal(rig_put(&rig, "user:a", NULL, "x").err, PEAL_EIO);
    disk_reset();
    assert_int_equal(rig_put(&rig, "user:a", NULL, "x").err, PEAL_EIO);
    assert_int_equal(rig_ack(&rig, "user:a", 1).err, PEAL_EIO);
    struct peal_store_op head = rig_head(&rig, "user:a");
    assert_int_equal(head.err, PEAL_OK);
    assert_int_equal(head.offset, 1);
    assert_string_equal(text_of("user:a"), "M1");
    rig_pass(&rig, 25 * HOUR_MS); /* sweeps write nothing either */

    rig_reopen(&rig);
    assert_int_equal(rig_put(&rig, "user:a", NULL, "x").err, PEAL_OK);
}

/* Runs a store in a child until it is told to end; returns what start said. */
static void child_opens(int out)
{
    char byte = (char)rig_try_open(&rig);
    if (write(out, &byte, 1) != 1) _exit(2);
    for (;;)
        pause();
}

static void kill_and_wait(pid_t child, int from)
{
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(from);
}

static void store_second_writer_stops_the_first(void **state)
{
    (void)state;
    int go[2];
    int from;
    char byte = 0;
    char path[128];
    /* The child waits, because a process with threads should not fork. */
    assert_int_equal(pipe(go), 0);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        if (read(go[0], &byte, 1) != 1) _exit(2);
        child_opens(ends[1]);
    }
    from = ends[0];
    rig_open(&rig);
    assert_int_equal(rig_put(&rig, "user:a", NULL, "x").err, PEAL_OK);
    snprintf(path, sizeof path, "%s/lock", rig.dir);
    assert_int_equal(unlink(path), 0); /* somebody meant well */
    assert_int_equal(write(go[1], &byte, 1), 1);
    assert_int_equal(read(from, &byte, 1), 1);
    assert_int_equal(byte, PEAL_OK);

    assert_int_equal(rig_put(&rig, "user:a", NULL, "x").err, PEAL_EIO);
    assert_int_equal(rig_head(&rig, "user:a").err, PEAL_OK);
    kill_and_wait(child, from);
    close(ends[1]);
    close(go[0]);
    close(go[1]);
}

/* Changes one bit of each place behind `text` in a file of the store; returns how many there were.
 */
static int damage(const char *name, const char *text, size_t size, size_t at)
{
    char path[4096];
    struct stat st;
    int found = 0;
    snprintf(path, sizeof path, "%s/%s", rig.dir, name);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    char *file = malloc((size_t)st.st_size);
    assert_non_null(file);
    assert_int_equal(pread(fd, file, (size_t)st.st_size, 0), st.st_size);
    char *end = file + st.st_size;
    for (char *p = file; (p = memmem(p, (size_t)(end - p), text, size)) != NULL; p += size) {
        p[at] = (char)(p[at] ^ 8);
        assert_int_equal(pwrite(fd, p + at, 1, p + at - file), 1);
        found++;
    }
    free(file);
    close(fd);
    return found;
}

/* A slot that goes out is in the inbox first. */
static void settle(const char *group)
{
    struct peal_store_op *op =
        peal_store_op_new(PEAL_STORE_EXPORT, peal_span_of(""), peal_span_of(""), NULL, 0);
    assert_non_null(op);
    op->policy = &rig.groups[0];
    op->mark_flags = peal_group_slot(peal_span_of(group));
    rig_submit(&rig, op);
    op = rig_wait(&rig.done);
    assert_int_equal(op->err, PEAL_OK);
    peal_store_op_free(op);
}

static void damaged_head_starts_a_new_epoch(void **state)
{
    (void)state;
    char key[PEAL_KEY_HEAD_MAX];
    struct page page;
    rig_open(&rig);
    uint64_t epoch = peal_store_generation(rig.store);
    for (int i = 0; i < 3; i++) {
        rig_put(&rig, "user:a", NULL, "x");
        rig_put(&rig, "user:b", NULL, "x");
    }
    settle("user:a");
    settle("user:b");
    rig_put(&rig, "user:c", NULL, "x"); /* with this the log is cut */
    rig_close(&rig);
    size_t size = peal_key_head(key, peal_span_of("user:a"));
    /* The value follows the key in the page; byte 20 of it is one of its numbers. */
    assert_true(damage("inbox/data.mdb", key, size, size + 20) > 0);
    rig_open(&rig);

    rig_page(&rig, &(struct ask){"user:a", epoch, 0, 0, 0, 0}, &page);
    /* That it is damaged, unless the walk over all heads was there before. */
    if (page.frame.code != PEAL_OK) assert_int_equal(page.frame.code, PEAL_ECORRUPT);
    if (page.frame.code == PEAL_OK) assert_true(page.frame.epoch != epoch);
    page_free(&page);
    struct peal_store_op head = rig_head(&rig, "user:a");
    assert_int_equal(head.err, PEAL_OK);
    assert_true(head.epoch != epoch);
    assert_int_equal(head.offset, 0);
    struct peal_store_op put = rig_put(&rig, "user:a", NULL, "new");
    assert_int_equal(put.epoch, head.epoch);
    assert_int_equal(put.offset, 1);
    rig_page(&rig, &(struct ask){"user:a", epoch, 2, 0, 0, 0}, &page);
    assert_string_equal(page.text, "Gepoch:1-0 M1");
    assert_string_equal(page.data, "new");
    page_free(&page);
    assert_string_equal(text_of("user:b"), "M1 M2 M3");
    rig_reopen(&rig);
    assert_int_equal(rig_head(&rig, "user:a").epoch, head.epoch);
    assert_int_equal(rig_head(&rig, "user:a").offset, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
        T(store_mark_of_nothing_creates_nothing),
        T(store_waiting_operations_share_one_commit_in_order),
        T(store_full_map_takes_marks_and_recovers),
        T(store_low_disk_refuses_puts_only),
        T(store_message_that_does_not_fit_fails_alone),
        T(store_full_disk_acks_nothing_and_recovers),
        T(store_failed_sync_stops_acks_until_restart),
        T(store_second_writer_stops_the_first),
        T(damaged_head_starts_a_new_epoch),
#undef T
    };
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
