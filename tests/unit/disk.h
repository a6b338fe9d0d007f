/* tests/unit/disk.h: a temporary folder, and a disk that fails on demand.
 *
 * LMDB calls fdatasync, pwrite and writev through the dynamic linker, so these definitions in
 * the test program take the place of libc's. Include it in one file of a test program. */
#ifndef PEAL_TESTS_DISK_H
#define PEAL_TESTS_DISK_H

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static _Atomic int disk_sync_errno;  /* fdatasync fails with it unless 0 */
static _Atomic int disk_write_errno; /* writes to files fail with it unless 0 */
static _Atomic uint64_t disk_free_percent = 50;
static _Atomic bool disk_is_full; /* statvfs says that nothing is left */

int fdatasync(int fd)
{
    int fail = atomic_load(&disk_sync_errno);
    if (fail == 0) return (int)syscall(SYS_fdatasync, fd);
    errno = fail;
    return -1;
}

ssize_t pwrite(int fd, const void *at, size_t size, off_t offset)
{
    int fail = atomic_load(&disk_write_errno);
    if (fail == 0) return syscall(SYS_pwrite64, fd, at, size, offset);
    errno = fail;
    return -1;
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    int fail = atomic_load(&disk_write_errno);
    if (fail == 0) return syscall(SYS_writev, fd, parts, count);
    errno = fail;
    return -1;
}

int statvfs(const char *restrict path, struct statvfs *restrict out)
{
    (void)path;
    *out = (struct statvfs){.f_frsize = 4096, .f_bsize = 4096, .f_blocks = 1000000};
    out->f_bavail = out->f_bfree = atomic_load(&disk_free_percent) * 10000;
    if (atomic_load(&disk_is_full)) out->f_bavail = out->f_bfree = 3;
    return 0;
}

static void disk_reset(void)
{
    atomic_store(&disk_sync_errno, 0);
    atomic_store(&disk_write_errno, 0);
    atomic_store(&disk_free_percent, 50);
    atomic_store(&disk_is_full, false);
}

struct folder {
    char path[64];
};

static inline int folder_setup(void **state)
{
    struct folder *folder = malloc(sizeof *folder);
    if (folder == NULL) return -1;
    const char *tmp = getenv("TMPDIR");
    snprintf(folder->path, sizeof folder->path, "%s/peal-test-XXXXXX",
             tmp == NULL || strlen(tmp) > 40 ? "/tmp" : tmp);
    if (mkdtemp(folder->path) == NULL) return -1;
    disk_reset();
    *state = folder;
    return 0;
}

static inline int folder_teardown(void **state)
{
    struct folder *folder = *state;
    /* Of a store, of a single database, and of layout 1. */
    static const char *const names[] = {"log/data.mdb",   "log/lock.mdb", "inbox/data.mdb",
                                        "inbox/lock.mdb", "data.mdb",     "lock"};
    char path[128];
    disk_reset();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder->path, names[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/log", folder->path);
    rmdir(path);
    snprintf(path, sizeof path, "%s/inbox", folder->path);
    rmdir(path);
    int rc = rmdir(folder->path);
    free(folder);
    return rc;
}

#endif
