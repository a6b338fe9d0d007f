#include "storage/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/keys.h"

static enum peal_err lock_take(const char *dir, int fd, const char *path, char *why,
                               size_t why_size)
{
    char text[32] = "";
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        ssize_t n = pread(fd, text, sizeof text - 1, 0);
        long pid = n > 0 ? strtol(text, NULL, 10) : 0;
        snprintf(why, why_size, "process %ld has the data in %s; stop it or use another folder",
                 pid, dir);
        return PEAL_ELOCKED;
    }
    int size = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)size, 0) != size) {
        snprintf(why, why_size, "cannot write %s: %s", path, strerror(errno));
        return PEAL_EIO;
    }
    return PEAL_OK;
}

/* Layout 1 had one database, in the folder itself. */
static enum peal_err layout_check(const char *dir, char *why, size_t why_size)
{
    char path[4096];
    struct stat st;
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    if (lstat(path, &st) != 0) {
        if (errno == ENOENT) return PEAL_OK;
        snprintf(why, why_size, "cannot look at %s: %s", path, strerror(errno));
        return PEAL_EIO;
    }
    snprintf(
        why, why_size,
        "the data in %s has layout 1 and this program reads %d; run the version that wrote it, "
        "or use an empty folder and leave its messages behind",
        dir, PEAL_LAYOUT);
    return PEAL_ECORRUPT;
}

enum peal_err peal_folder_take(const char *dir, int *fd, char *why, size_t why_size)
{
    char path[4096];
    *fd = -1;
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        snprintf(why, why_size, "cannot create %s: %s", dir, strerror(errno));
        return PEAL_EIO;
    }
    snprintf(path, sizeof path, "%s/lock", dir);
    int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0) {
        snprintf(why, why_size, "cannot open %s: %s", path, strerror(errno));
        return PEAL_EIO;
    }
    enum peal_err err = lock_take(dir, lock, path, why, why_size);
    if (err == PEAL_OK) err = layout_check(dir, why, why_size);
    if (err != PEAL_OK) {
        close(lock);
        return err;
    }
    *fd = lock;
    return PEAL_OK;
}
