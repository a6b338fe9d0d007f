#include "storage/folder.h"

#include <signal.h>
#include <sys/wait.h>

#include "tests/unit/unit.h"

#include "tests/unit/disk.h"

static void path_of(const struct folder *folder, const char *name, char out[128])
{
    snprintf(out, 128, "%s/%s", folder->path, name);
}

static void folder_taken_says_the_pid_and_is_private(void **state)
{
    const struct folder *folder = *state;
    char dir[128];
    char path[160];
    char why[256] = "";
    char text[32] = "";
    struct stat st;
    int fd;
    path_of(folder, "new", dir);
    assert_int_equal(peal_folder_take(dir, &fd, why, sizeof why), PEAL_OK);
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    snprintf(path, sizeof path, "%s/lock", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_true(pread(fd, text, sizeof text - 1, 0) > 0);
    assert_int_equal(strtol(text, NULL, 10), getpid());
    close(fd);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

static void folder_in_use_names_the_pid(void **state)
{
    const struct folder *folder = *state;
    int go[2];
    char byte;
    assert_int_equal(pipe(go), 0);
    pid_t child = fork();
    if (child == 0) {
        char why[256];
        int fd;
        byte = (char)peal_folder_take(folder->path, &fd, why, sizeof why);
        if (write(go[1], &byte, 1) != 1) _exit(2);
        for (;;)
            pause();
    }
    assert_int_equal(read(go[0], &byte, 1), 1);
    assert_int_equal(byte, PEAL_OK);

    char why[256] = "";
    char pid[32];
    int fd = 0;
    assert_int_equal(peal_folder_take(folder->path, &fd, why, sizeof why), PEAL_ELOCKED);
    assert_int_equal(fd, -1);
    snprintf(pid, sizeof pid, "process %ld ", (long)child);
    assert_non_null(strstr(why, pid));

    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(go[0]);
    close(go[1]);
    /* The dead hold no lock, and a longer pid of theirs leaves nothing behind. */
    char path[128];
    path_of(folder, "lock", path);
    int lock = open(path, O_WRONLY);
    assert_int_equal(write(lock, "123456789012\n", 13), 13);
    close(lock);
    assert_int_equal(peal_folder_take(folder->path, &fd, why, sizeof why), PEAL_OK);
    char text[32] = "";
    char own[32];
    assert_true(pread(fd, text, sizeof text - 1, 0) > 0);
    snprintf(own, sizeof own, "%ld\n", (long)getpid());
    assert_string_equal(text, own);
    close(fd);
}

static void folder_of_layout_1_is_refused_and_left_alone(void **state)
{
    const struct folder *folder = *state;
    char path[128];
    char why[512] = "";
    char expected[256];
    struct stat st;
    int fd = 0;
    path_of(folder, "data.mdb", path);
    int old = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(old >= 0);
    assert_int_equal(write(old, "old", 3), 3);
    close(old);

    assert_int_equal(peal_folder_take(folder->path, &fd, why, sizeof why), PEAL_ECORRUPT);
    assert_int_equal(fd, -1);
    snprintf(expected, sizeof expected, "the data in %s has layout 1 and this program reads 2; ",
             folder->path);
    assert_non_null(strstr(why, expected));
    assert_true(strlen(why) > strlen(expected) + 20); /* and what to do */
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 3);

    /* It was given back: whoever follows the advice gets it. */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(peal_folder_take(folder->path, &fd, why, sizeof why), PEAL_OK);
    close(fd);
}

static void folder_that_cannot_be_made_says_why(void **state)
{
    const struct folder *folder = *state;
    char dir[128];
    char why[256] = "";
    int fd = 0;
    path_of(folder, "missing/deep", dir);
    assert_int_equal(peal_folder_take(dir, &fd, why, sizeof why), PEAL_EIO);
    assert_int_equal(fd, -1);
    assert_non_null(strstr(why, dir));
    assert_non_null(strstr(why, strerror(ENOENT)));
}

static void folder_on_a_full_disk_says_why(void **state)
{
    const struct folder *folder = *state;
    char why[256] = "";
    int fd = 0;
    atomic_store(&disk_write_errno, ENOSPC);
    assert_int_equal(peal_folder_take(folder->path, &fd, why, sizeof why), PEAL_EIO);
    assert_int_equal(fd, -1);
    assert_non_null(strstr(why, "lock"));
    assert_non_null(strstr(why, strerror(ENOSPC)));
    disk_reset();
    assert_int_equal(peal_folder_take(folder->path, &fd, why, sizeof why), PEAL_OK);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, folder_setup, folder_teardown)
        T(folder_taken_says_the_pid_and_is_private),
        T(folder_in_use_names_the_pid),
        T(folder_of_layout_1_is_refused_and_left_alone),
        T(folder_that_cannot_be_made_says_why),
        T(folder_on_a_full_disk_says_why),
#undef T
    };
    return cmocka_run_group_tests_name("folder", tests, NULL, NULL);
}
