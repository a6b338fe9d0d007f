/* tests/unit/recorder.h: a disk that remembers what was done to it, and what a power cut leaves;
 * its syncs can be slow, or fail.
 *
 * The definitions below take the place of libc's in the test program and in LMDB, which calls them
 * through the dynamic linker. While the recorder is on, whatever is done to files below its folder
 * becomes an event of a journal, together with notes of the test (what was acknowledged). An image
 * is the folder as it may be found after a cut between two events:
 *
 * - Of each file the writes before a finished sync of that file are there, and those through a
 *   descriptor with O_DSYNC that returned. A sync orders nothing in other files.
 * - Of all others any part is there, torn at sectors of 512 bytes: that is also what reordering
 *   leaves. Of two writes to a sector the later one wins, as it does in the kernel's memory.
 * - A file that was being made longer ends at any block of the file system (`rec.block`).
 * - Names (create, rename, unlink, mkdir) are kept by a file system with a journal: those up to
 *   some point are there, at least up to what made a synced file, or to a sync of a directory.
 * - What is written through a shared map is not seen: such a file is noise. A store that keeps
 *   data in one fails here.
 *
 * Nothing is ever really synced: what matters is what was asked for. A sync that failed has synced
 * nothing, and neither does the next one for what came before: the kernel has dropped it.
 *
 * Thread: any; one lock, which also makes a write and its event one step. Include it in one file of
 * a test program, before store_rig.h. */
#ifndef PEAL_TESTS_RECORDER_H
#define PEAL_TESTS_RECORDER_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    REC_FILES_MAX = 64,
    REC_PATH_MAX = 96, /* below the folder */
    REC_ROOT_MAX = 160,
    REC_FULL_MAX = REC_ROOT_MAX + REC_PATH_MAX + 1,
    REC_SECTOR = 512,
};

enum rec_kind {
    REC_WRITE,      /* bytes at */
    REC_SIZE,       /* the file has this size from now on */
    REC_SYNC,       /* the events of the file from `at` to before `upto` are on the disk */
    REC_SYNC_ONE,   /* the event `upto` is */
    REC_NAME,       /* `name` is `file` from now on; no file: a directory */
    REC_UNNAME,     /* nothing has this name any more */
    REC_SYNC_NAMES, /* all names before `upto` are on the disk */
    REC_NOTE,       /* of the test: (at, size) mean what it wants */
};

struct rec_event {
    enum rec_kind kind;
    int file; /* index; -1: none */
    uint64_t at;
    uint64_t size;
    size_t upto;
    char *bytes;
    char name[REC_PATH_MAX];
};

struct rec_file {
    dev_t dev;
    ino_t ino;      /* 0: gone */
    size_t named;   /* the event that gave it its first name, + 1 */
    size_t dropped; /* a sync that failed has dropped the events before this one */
    bool mapped;
    char *base; /* at the begin */
    size_t base_size;
};

static struct {
    pthread_mutex_t lock;
    _Atomic bool on;
    char root[REC_ROOT_MAX];
    struct rec_event *events;
    size_t count, room;
    size_t begin; /* events of what was there before */
    size_t block; /* of the file system: where files can end after a cut, or where they ended */
    struct rec_file files[REC_FILES_MAX];
    int file_count;
    bool unknown;              /* something that has no event */
    _Atomic uint32_t delay_us; /* a sync takes less than this, sometimes more and sometimes less */
    _Atomic uint32_t spike_us; /* and this in addition */
    /* Syncs of all kinds, also writes through O_DSYNC, since the start. */
    _Atomic uint32_t syncs_begun, syncs_ended;
    _Atomic uint32_t failing; /* this one fails, once: the disk claims to be fine afterwards */
    _Atomic bool failed;      /* it has */
    _Atomic bool held;        /* none ends until this is taken away */
} rec = {.lock = PTHREAD_MUTEX_INITIALIZER, .block = 4096};

static inline void rec_die(const char *what)
{
    fprintf(stderr, "recorder: %s: %s\n", what, strerror(errno));
    abort();
}

static inline uint64_t rec_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static inline uint64_t rec_below(uint64_t *state, uint64_t sides)
{
    return rec_random(state) % sides;
}

/* ---- events, under the lock ------------------------------------------------------------- */

static inline struct rec_event *rec_add(enum rec_kind kind, int file)
{
    if (rec.count == rec.room) {
        rec.room = rec.room == 0 ? 1024 : 2 * rec.room;
        rec.events = realloc(rec.events, rec.room * sizeof *rec.events);
        if (rec.events == NULL) rec_die("events");
    }
    struct rec_event *event = &rec.events[rec.count++];
    *event = (struct rec_event){.kind = kind, .file = file};
    return event;
}

/* The file behind a descriptor; -1: none of ours. */
static inline int rec_find(int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return -1;
    for (int i = 0; i < rec.file_count; i++) {
        if (rec.files[i].ino == st.st_ino && rec.files[i].dev == st.st_dev) return i;
    }
    return -1;
}

/* The path of a descriptor below the folder; false: it is elsewhere. The folder itself is "". */
static inline bool rec_path_of(int fd, char out[REC_PATH_MAX])
{
    char link[64];
    char path[4096];
    size_t root = strlen(rec.root);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return false;
    path[size] = '\0';
    if (strncmp(path, rec.root, root) != 0 || (path[root] != '/' && path[root] != '\0'))
        return false;
    snprintf(out, REC_PATH_MAX, "%s", path + root + (path[root] == '/'));
    return true;
}

/* The part of an absolute path below the folder; NULL: it is elsewhere. */
static inline const char *rec_below_root(const char *path)
{
    size_t root = strlen(rec.root);
    if (strncmp(path, rec.root, root) != 0 || path[root] != '/') return NULL;
    return path + root + 1;
}

static inline void rec_name(const char *name, int file)
{
    struct rec_event *event = rec_add(REC_NAME, file);
    snprintf(event->name, sizeof event->name, "%s", name);
    if (file >= 0 && rec.files[file].named == 0) rec.files[file].named = rec.count;
}

static inline int rec_file_new(const struct stat *st)
{
    if (rec.file_count == REC_FILES_MAX) rec_die("too many files");
    int file = rec.file_count++;
    rec.files[file] = (struct rec_file){.dev = st->st_dev, .ino = st->st_ino};
    return file;
}

/* A descriptor was opened with O_CREAT or O_TRUNC. */
static inline void rec_opened(int fd, int flags)
{
    char name[REC_PATH_MAX];
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || !rec_path_of(fd, name)) return;
    int file = rec_find(fd);
    if (file < 0)
        rec_name(name, rec_file_new(&st));
    else if (flags & O_TRUNC)
        rec_add(REC_SIZE, file);
}

static inline void rec_wrote(int fd, uint64_t at, const struct iovec *parts, int count, size_t size)
{
    int file = rec_find(fd);
    if (file < 0 || size == 0) return;
    char *bytes = malloc(size);
    if (bytes == NULL) rec_die("bytes");
    size_t left = size;
    for (int i = 0; i < count && left > 0; i++) {
        size_t part = parts[i].iov_len < left ? parts[i].iov_len : left;
        memcpy(bytes + (size - left), parts[i].iov_base, part);
        left -= part;
    }
    struct rec_event *event = rec_add(REC_WRITE, file);
    event->at = at;
    event->size = size;
    event->bytes = bytes;
}

/* What was written last is on the disk. */
static inline void rec_synced_one(void)
{
    size_t written = rec.count - 1;
    if (rec.count > 0 && rec.events[written].kind == REC_WRITE)
        rec_add(REC_SYNC_ONE, rec.events[written].file)->upto = written;
}

/* A write at the descriptor's own position, which is behind it by now. */
static inline void rec_wrote_on(int fd, const struct iovec *parts, int count, ssize_t size)
{
    if (size <= 0) return;
    off_t end = (off_t)syscall(SYS_lseek, fd, 0, SEEK_CUR);
    if (end >= size) rec_wrote(fd, (uint64_t)(end - size), parts, count, (size_t)size);
}

static inline void rec_synced(int fd, size_t upto)
{
    char name[REC_PATH_MAX];
    struct stat st;
    int file = rec_find(fd);
    if (file >= 0) {
        struct rec_event *event = rec_add(REC_SYNC, file);
        event->at = rec.files[file].dropped;
        event->upto = upto;
    }
    bool directory = file < 0 && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
    if (directory && rec_path_of(fd, name)) rec_add(REC_SYNC_NAMES, -1)->upto = upto;
}

/* ---- what takes the place of libc ------------------------------------------------------- */

#define REC_LOCKED(statements)                                                                     \
    do {                                                                                           \
        pthread_mutex_lock(&rec.lock);                                                             \
        statements;                                                                                \
        pthread_mutex_unlock(&rec.lock);                                                           \
    } while (0)

static inline bool rec_is_on(void)
{
    return atomic_load_explicit(&rec.on, memory_order_relaxed);
}

/* A sync: takes its time, and fails when it is its turn. */
static inline bool rec_sync_passes(void)
{
    uint32_t number = atomic_fetch_add(&rec.syncs_begun, 1) + 1;
    uint32_t delay_us = atomic_load(&rec.delay_us);
    struct timespec pause = {.tv_nsec = 200000};
    while (atomic_load(&rec.held))
        nanosleep(&pause, NULL);
    /* Other threads go on meanwhile. */
    uint32_t us = atomic_load(&rec.spike_us);
    if (delay_us > 0) us += number * 7919 % delay_us;
    if (us > 0) {
        pause = (struct timespec){.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000};
        nanosleep(&pause, NULL);
    }
    atomic_fetch_add(&rec.syncs_ended, 1);
    if (number != atomic_load(&rec.failing)) return true;
    atomic_store(&rec.failed, true);
    return false;
}

/* Is a write through this descriptor a sync as well? The bit is one of O_SYNC, too. */
static inline bool rec_write_syncs(int fd)
{
    int file = -1;
    if (fcntl(fd, F_GETFL) & O_DSYNC) REC_LOCKED(file = rec_find(fd));
    return file >= 0;
}

static inline int rec_open(int dir, const char *path, int flags, mode_t mode)
{
    if (!rec_is_on() || !(flags & (O_CREAT | O_TRUNC)))
        return (int)syscall(SYS_openat, dir, path, flags, mode);
    int fd;
    REC_LOCKED({
        fd = (int)syscall(SYS_openat, dir, path, flags, mode);
        if (fd >= 0) rec_opened(fd, flags);
    });
    return fd;
}

static inline mode_t rec_mode(int flags, va_list arguments)
{
    return flags & O_CREAT ? (mode_t)va_arg(arguments, int) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = rec_mode(flags, arguments);
    va_end(arguments);
    return rec_open(AT_FDCWD, path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = rec_mode(flags, arguments);
    va_end(arguments);
    return rec_open(dir, path, flags, mode);
}

/* One write of any kind; offset -1: at the descriptor's own position. What was written when the
 * sync failed is in the kernel's memory, and perhaps on the disk. */
static inline ssize_t rec_do_write(int fd, const struct iovec *parts, int count, off_t offset)
{
    if (!rec_is_on()) {
        if (offset < 0) return syscall(SYS_writev, fd, parts, count);
        return syscall(SYS_pwritev, fd, parts, count, offset, 0);
    }
    bool syncs = rec_write_syncs(fd);
    bool passes = !syncs || rec_sync_passes();
    ssize_t done;
    REC_LOCKED({
        if (offset < 0)
            done = syscall(SYS_writev, fd, parts, count);
        else
            done = syscall(SYS_pwritev, fd, parts, count, offset, 0);
        if (done > 0 && offset < 0) rec_wrote_on(fd, parts, count, done);
        if (done > 0 && offset >= 0) rec_wrote(fd, (uint64_t)offset, parts, count, (size_t)done);
        if (done > 0 && syncs && passes) rec_synced_one();
    });
    if (passes) return done;
    errno = EIO;
    return -1;
}

ssize_t pwrite(int fd, const void *at, size_t size, off_t offset)
{
    struct iovec part = {(void *)(uintptr_t)at, size};
    return rec_do_write(fd, &part, 1, offset);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return rec_do_write(fd, parts, count, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return rec_do_write(fd, parts, count, -1);
}

ssize_t write(int fd, const void *at, size_t size)
{
    struct iovec part = {(void *)(uintptr_t)at, size};
    return rec_do_write(fd, &part, 1, -1);
}

static inline int rec_resize(int fd, off_t size, bool grow_only)
{
    struct stat st;
    if (grow_only && (fstat(fd, &st) != 0 || st.st_size >= size)) return 0;
    int rc;
    REC_LOCKED({
        rc = (int)syscall(SYS_ftruncate, fd, size);
        int file = rc == 0 && rec_is_on() ? rec_find(fd) : -1;
        if (file >= 0) rec_add(REC_SIZE, file)->size = (uint64_t)size;
    });
    return rc;
}

int ftruncate(int fd, off_t size)
{
    return rec_resize(fd, size, false);
}

int truncate(const char *path, off_t size)
{
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0) return -1;
    int rc = rec_resize(fd, size, false);
    close(fd);
    return rc;
}

/* Space is taken by making the file longer: what is tested here has enough of it. */
int posix_fallocate(int fd, off_t at, off_t size)
{
    return rec_resize(fd, at + size, true) == 0 ? 0 : errno;
}

int fallocate(int fd, int mode, off_t at, off_t size)
{
    if (mode == 0) return rec_resize(fd, at + size, true);
    if (!(mode & FALLOC_FL_KEEP_SIZE)) rec.unknown = true;
    return (int)syscall(SYS_fallocate, fd, mode, at, size);
}

static inline int rec_sync(int fd)
{
    if (!rec_is_on()) return 0;
    size_t upto;
    REC_LOCKED(upto = rec.count);
    bool passes = rec_sync_passes();
    REC_LOCKED({
        int file = passes ? -1 : rec_find(fd);
        if (file >= 0) rec.files[file].dropped = rec.count;
        if (passes) rec_synced(fd, upto);
    });
    if (passes) return 0;
    errno = EIO;
    return -1;
}

int fdatasync(int fd)
{
    return rec_sync(fd);
}

int fsync(int fd)
{
    return rec_sync(fd);
}

int mkdir(const char *path, mode_t mode)
{
    int rc;
    REC_LOCKED({
        rc = (int)syscall(SYS_mkdir, path, mode);
        const char *name = rc == 0 && rec_is_on() ? rec_below_root(path) : NULL;
        if (name != NULL) rec_name(name, -1);
    });
    return rc;
}

/* The file that has this name now. */
static inline int rec_named(const char *path)
{
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return -1;
    int file = rec_find(fd);
    close(fd);
    return file;
}

static inline void rec_unname(const char *name, int file)
{
    struct rec_event *event = rec_add(REC_UNNAME, -1);
    snprintf(event->name, sizeof event->name, "%s", name);
    if (file >= 0) rec.files[file].ino = 0; /* the number may be used again */
}

int unlink(const char *path)
{
    int rc;
    REC_LOCKED({
        const char *name = rec_is_on() ? rec_below_root(path) : NULL;
        int file = name == NULL ? -1 : rec_named(path);
        rc = (int)syscall(SYS_unlink, path);
        if (rc == 0 && name != NULL) rec_unname(name, file);
    });
    return rc;
}

int rename(const char *from, const char *to)
{
    int rc;
    REC_LOCKED({
        const char *old = rec_is_on() ? rec_below_root(from) : NULL;
        const char *new = rec_is_on() ? rec_below_root(to) : NULL;
        int file = old == NULL ? -1 : rec_named(from);
        int over = new == NULL ? -1 : rec_named(to);
        rc = (int)syscall(SYS_rename, from, to);
        if (rc == 0 && (old == NULL) != (new == NULL)) rec.unknown = true;
        if (rc == 0 && old != NULL && new != NULL) {
            if (file < 0) rec.unknown = true; /* a directory */
            if (over >= 0) rec.files[over].ino = 0;
            /* In this order, so that the file always has one of the names. */
            rec_name(new, file);
            rec_unname(old, -1);
        }
    });
    return rc;
}

/* The disk of these tests has room, whatever this machine's has. */
int statvfs(const char *restrict path, struct statvfs *restrict out)
{
    (void)path;
    *out = (struct statvfs){.f_frsize = 4096, .f_bsize = 4096, .f_blocks = 1000000};
    out->f_bavail = out->f_bfree = 500000;
    return 0;
}

/* ---- folders ---------------------------------------------------------------------------- */

static inline char *rec_read(const char *path, size_t *size)
{
    struct stat st;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0 || fstat(fd, &st) != 0) rec_die(path);
    *size = (size_t)st.st_size;
    char *bytes = malloc(*size + 1);
    if (bytes == NULL || pread(fd, bytes, *size, 0) != (ssize_t)*size) rec_die(path);
    close(fd);
    return bytes;
}

/* Calls `each` for all below dir/name: files, and directories before and after what is in them. */
enum rec_visit { REC_FILE, REC_ENTER, REC_LEAVE };

static inline void rec_walk(const char *dir, const char *name,
                            void (*each)(enum rec_visit visit, const char *path, const char *name))
{
    char path[REC_FULL_MAX];
    snprintf(path, sizeof path, "%s%s%s", dir, *name == '\0' ? "" : "/", name);
    DIR *entries = opendir(path);
    if (entries == NULL) return;
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        char below[REC_PATH_MAX];
        char full[REC_FULL_MAX];
        struct stat st;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        int size =
            snprintf(below, sizeof below, "%s%s%s", name, *name == '\0' ? "" : "/", entry->d_name);
        if (size >= REC_PATH_MAX) rec_die("a path is too long");
        snprintf(full, sizeof full, "%s/%s", dir, below);
        if (lstat(full, &st) != 0) continue;
        if (!S_ISDIR(st.st_mode)) {
            each(REC_FILE, full, below);
            continue;
        }
        each(REC_ENTER, full, below);
        rec_walk(dir, below, each);
        each(REC_LEAVE, full, below);
    }
    closedir(entries);
}

static inline void rec_erase_one(enum rec_visit visit, const char *path, const char *name)
{
    (void)name;
    if (visit == REC_FILE) syscall(SYS_unlink, path);
    if (visit == REC_LEAVE) syscall(SYS_rmdir, path);
}

/* Empties a folder. */
static inline void rec_erase(const char *dir)
{
    rec_walk(dir, "", rec_erase_one);
}

struct rec_folders {
    char dir[REC_ROOT_MAX - 16];
    char image[REC_ROOT_MAX - 8];
};

/* Two empty folders of a test program, as its setup returns it. */
static inline int rec_folders_make(struct rec_folders *folders, const char *name)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(folders->dir, sizeof folders->dir, "%s/peal-%s-XXXXXX",
             tmp == NULL || strlen(tmp) > 40 ? "/tmp" : tmp, name);
    if (mkdtemp(folders->dir) == NULL) return -1;
    snprintf(folders->image, sizeof folders->image, "%s.image", folders->dir);
    return mkdir(folders->image, 0700);
}

static inline int rec_folders_remove(const struct rec_folders *folders)
{
    rec_erase(folders->dir);
    rec_erase(folders->image);
    return rmdir(folders->dir) | rmdir(folders->image);
}

/* A number in the environment. */
static inline uint64_t rec_number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

/* ---- recording -------------------------------------------------------------------------- */

static inline void rec_base_one(enum rec_visit visit, const char *path, const char *name)
{
    struct stat st;
    if (visit == REC_LEAVE) return;
    if (visit == REC_ENTER) {
        rec_name(name, -1);
        return;
    }
    if (stat(path, &st) != 0) rec_die(path);
    int file = rec_file_new(&st);
    rec.files[file].base = rec_read(path, &rec.files[file].base_size);
    rec_name(name, file);
}

/* Begins a new journal of the folder, of which all that is there now is on the disk. */
static inline void recorder_start(const char *root)
{
    REC_LOCKED({
        for (size_t i = 0; i < rec.count; i++)
            free(rec.events[i].bytes);
        for (int i = 0; i < rec.file_count; i++)
            free(rec.files[i].base);
        rec.count = 0;
        rec.file_count = 0;
        rec.unknown = false;
        atomic_store(&rec.syncs_begun, 0);
        atomic_store(&rec.syncs_ended, 0);
        atomic_store(&rec.failed, false);
        snprintf(rec.root, sizeof rec.root, "%s", root);
        rec_walk(root, "", rec_base_one);
        size_t upto = rec.count;
        rec_add(REC_SYNC_NAMES, -1)->upto = upto;
        rec.begin = rec.count;
        atomic_store(&rec.on, true);
    });
}

static inline void recorder_stop(void)
{
    atomic_store(&rec.on, false);
}

/* Returns the number of the note's event. */
static inline size_t recorder_note(uint64_t what, uint64_t number)
{
    size_t count;
    REC_LOCKED({
        struct rec_event *event = rec_add(REC_NOTE, -1);
        event->at = what;
        event->size = number;
        count = rec.count;
    });
    return count - 1;
}

/* Finds out which files are written through maps: to be called while they are open. */
static inline void recorder_look_for_maps(void)
{
    char line[4352];
    FILE *maps = fopen("/proc/self/maps", "re");
    if (maps == NULL) rec_die("maps");
    while (fgets(line, sizeof line, maps) != NULL) {
        char *path = strchr(line, '/');
        if (path == NULL || strstr(line, " rw-s ") == NULL) continue;
        path[strcspn(path, "\n")] = '\0';
        REC_LOCKED({
            int file = rec_below_root(path) == NULL ? -1 : rec_named(path);
            if (file >= 0) rec.files[file].mapped = true;
        });
    }
    fclose(maps);
}

/* ---- images ----------------------------------------------------------------------------- */

struct rec_content {
    char *bytes;
    size_t size, room;
};

static inline void rec_grow(struct rec_content *content, size_t size)
{
    if (size > content->room) {
        size_t room = 2 * content->room < size ? size : 2 * content->room;
        content->bytes = realloc(content->bytes, room);
        if (content->bytes == NULL) rec_die("content");
        memset(content->bytes + content->room, 0, room - content->room);
        content->room = room;
    }
    if (size > content->size) content->size = size;
}

static inline void rec_put(struct rec_content *content, uint64_t at, const char *bytes, size_t size)
{
    rec_grow(content, at + size);
    memcpy(content->bytes + at, bytes, size);
}

/* How much of what was not synced a cut leaves. */
struct rec_luck {
    uint64_t *dice;
    uint64_t percent; /* of writes */
    uint64_t torn;    /* percent of them are decided by the sector */
    bool sizes;       /* a lost write can have made its file longer */
};

static inline struct rec_luck rec_luck_of(uint64_t *dice)
{
    static const uint64_t percents[] = {0, 0, 10, 50, 50, 90, 100};
    return (struct rec_luck){
        .dice = dice,
        .percent = percents[rec_below(dice, sizeof percents / sizeof percents[0])],
        .torn = rec_below(dice, 3) * 50,
        .sizes = rec_below(dice, 4) == 0,
    };
}

static inline bool rec_lucky(const struct rec_luck *luck)
{
    return rec_below(luck->dice, 100) < luck->percent;
}

static inline void rec_leave_write(struct rec_content *content, const struct rec_event *event,
                                   const struct rec_luck *luck)
{
    bool torn = rec_below(luck->dice, 100) < luck->torn;
    bool all = rec_lucky(luck);
    for (uint64_t done = 0; done < event->size;) {
        uint64_t at = event->at + done;
        uint64_t part = REC_SECTOR - at % REC_SECTOR;
        if (part > event->size - done) part = event->size - done;
        if (torn ? rec_lucky(luck) : all) rec_put(content, at, event->bytes + done, part);
        done += part;
    }
    if (luck->sizes) rec_grow(content, event->at + event->size);
}

static inline void rec_cut_size(struct rec_content *content, uint64_t size)
{
    if (size < content->size) {
        memset(content->bytes + size, 0, content->size - size);
        content->size = size;
    }
    rec_grow(content, size);
}

/* What is left of a file when the events before `cut` have happened. luck NULL: all of it. */
static inline struct rec_content rec_content_at(int file, size_t cut, const struct rec_luck *luck)
{
    struct rec_content content = {0};
    bool *synced = calloc(cut + 1, sizeof *synced);
    if (synced == NULL) rec_die("synced");
    for (size_t i = 0; i < cut; i++) {
        const struct rec_event *event = &rec.events[i];
        if (event->file != file) continue;
        for (size_t n = event->at; event->kind == REC_SYNC && n < event->upto; n++)
            synced[n] = true;
        if (event->kind == REC_SYNC_ONE) synced[event->upto] = true;
    }
    size_t whole = rec.files[file].base_size; /* the size if nothing were lost */
    rec_grow(&content, whole);
    if (content.size > 0) memcpy(content.bytes, rec.files[file].base, content.size);
    for (size_t i = 0; i < cut; i++) {
        const struct rec_event *event = &rec.events[i];
        bool there = luck == NULL || synced[i];
        if (event->file != file) continue;
        if (event->kind == REC_SIZE) whole = event->size;
        if (event->kind == REC_WRITE && event->at + event->size > whole)
            whole = event->at + event->size;
        if (event->kind == REC_WRITE && there)
            rec_put(&content, event->at, event->bytes, event->size);
        if (event->kind == REC_WRITE && !there) rec_leave_write(&content, event, luck);
        if (event->kind == REC_SIZE && (there || rec_lucky(luck)))
            rec_cut_size(&content, event->size);
    }
    free(synced);
    size_t end = content.size % rec.block == 0
                     ? content.size
                     : content.size + rec.block - content.size % rec.block;
    if (end > whole) end = whole;
    if (luck != NULL) rec_grow(&content, end);
    return content;
}

/* The names that are there after a cut are those before the returned event. */
static inline size_t rec_names_to(size_t cut, const struct rec_luck *luck)
{
    size_t least = 0;
    for (size_t i = 0; i < cut; i++) {
        const struct rec_event *event = &rec.events[i];
        size_t upto = 0;
        if (event->kind == REC_SYNC_NAMES) upto = event->upto;
        if (event->kind == REC_SYNC || event->kind == REC_SYNC_ONE)
            upto = rec.files[event->file].named;
        if (upto <= i && upto > least) least = upto;
    }
    return least + rec_below(luck->dice, cut - least + 1);
}

static inline void rec_write_file(const char *path, const struct rec_content *content)
{
    int fd =
        (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) rec_die(path);
    for (size_t done = 0; done < content->size;) {
        ssize_t n = syscall(SYS_write, fd, content->bytes + done, content->size - done);
        if (n <= 0) rec_die(path);
        done += (size_t)n;
    }
    close(fd);
}

/* A map's file is what nobody knows: as it was, zeros, or noise. */
static inline void rec_noise(struct rec_content *content, uint64_t *dice)
{
    uint64_t kind = rec_below(dice, 3);
    for (size_t i = 0; i < content->size && kind > 0; i++)
        content->bytes[i] = kind == 1 ? 0 : (char)rec_random(dice);
}

/* Makes the (empty) folder `dir` what a cut after `cut` events, at least rec.begin, may leave. */
static inline void recorder_image(size_t cut, uint64_t seed, const char *dir)
{
    uint64_t dice = seed;
    struct rec_luck luck = rec_luck_of(&dice);
    size_t names_to = rec_names_to(cut, &luck);
    for (size_t i = 0; i < names_to; i++) {
        const struct rec_event *event = &rec.events[i];
        char path[REC_FULL_MAX];
        snprintf(path, sizeof path, "%s/%s", dir, event->name);
        if (event->kind == REC_UNNAME) syscall(SYS_unlink, path);
        if (event->kind != REC_NAME) continue;
        if (event->file < 0) {
            syscall(SYS_mkdir, path, 0700);
            continue;
        }
        struct rec_content content = rec_content_at(event->file, cut, &luck);
        if (rec.files[event->file].mapped) rec_noise(&content, &dice);
        rec_write_file(path, &content);
        free(content.bytes);
    }
}

/* Was everything seen? Compares the files as they are with what the journal makes of them. */
static inline bool recorder_saw_all(char *why, size_t why_size)
{
    snprintf(why, why_size, "something was done to the folder that the recorder does not know");
    if (rec.unknown) return false;
    for (size_t i = 0; i < rec.count; i++) {
        const struct rec_event *event = &rec.events[i];
        char path[REC_FULL_MAX];
        size_t size;
        struct stat st;
        if (event->kind != REC_NAME || event->file < 0 || rec.files[event->file].mapped) continue;
        snprintf(path, sizeof path, "%s/%s", rec.root, event->name);
        if (stat(path, &st) != 0 || st.st_ino != rec.files[event->file].ino) continue;
        struct rec_content content = rec_content_at(event->file, rec.count, NULL);
        char *bytes = rec_read(path, &size);
        bool same = size == content.size && (size == 0 || memcmp(bytes, content.bytes, size) == 0);
        free(content.bytes);
        free(bytes);
        if (same) continue;
        snprintf(why, why_size, "%s is not what the recorder has seen", event->name);
        return false;
    }
    return true;
}

#endif
