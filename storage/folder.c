#include "storage/folder.h"

#include <dirent.h>
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

enum peal_err peal_folder_visit(const char *dir, bool alone, int *fd, char *why, size_t why_size)
{
    int folder = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *fd = -1;
    if (folder < 0) {
        snprintf(why, why_size, "cannot open %s: %s", dir, strerror(errno));
        return errno == ENOENT || errno == ENOTDIR ? PEAL_ENOT_FOUND : PEAL_EIO;
    }
    if (flock(folder, (alone ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0) {
        snprintf(why, why_size,
                 alone ? "another process reads the data in %s; wait for it"
                       : "another process puts new files into %s; wait for it",
                 dir);
        close(folder);
        return PEAL_ELOCKED;
    }
    *fd = folder;
    return PEAL_OK;
}

bool peal_folder_empty(const char *dir)
{
    DIR *folder = opendir(dir);
    if (folder == NULL) return errno == ENOENT;
    bool empty = true;
    struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        const char *name = entry->d_name;
        /* A volume has this one when it is new. */
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strcmp(name, "lost+found") != 0)
            empty = false;
    }
    closedir(folder);
    return empty;
}

void peal_folder_clear(const char *dir)
{
    static const char *const names[] = {"log/data.mdb", "log/lock.mdb", "inbox/data.mdb",
                                        "inbox/lock.mdb", "lock"};
    char path[4096];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/log", dir);
    rmdir(path);
    snprintf(path, sizeof path, "%s/inbox", dir);
    rmdir(path);
}
