#include "node/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

enum { FILE_BYTES_MAX = 4096, SECRET_CHARS_MIN = 32 };

void peal_secret_wipe(struct peal_buf *secret)
{
    if (secret->at != NULL) sodium_memzero(secret->at, secret->capacity);
    peal_buf_fini(secret);
}

static enum peal_err fail_errno(const char *path, const char *what, char *why, size_t why_size)
{
    int error = errno;
    snprintf(why, why_size, "%s cannot be %s: %s", path, what, strerror(error));
    return PEAL_EIO;
}

static enum peal_err sync_folder(const char *dir, char *why, size_t why_size)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fail_errno(dir, "opened", why, why_size);
    int rc = fsync(fd);
    enum peal_err err = rc == 0 ? PEAL_OK : fail_errno(dir, "synced", why, why_size);
    close(fd);
    return err;
}

static enum peal_err write_new(int fd, const char *path, char *why, size_t why_size)
{
    unsigned char random[32];
    char line[PEAL_SECRET_SIZE + 2];
    _Static_assert(
        sodium_base64_ENCODED_LEN(sizeof random, sodium_base64_VARIANT_URLSAFE_NO_PADDING) ==
            PEAL_SECRET_SIZE + 1,
        "32 bytes are 43 characters and a NUL");
    randombytes_buf(random, sizeof random);
    sodium_bin2base64(line, PEAL_SECRET_SIZE + 1, random, sizeof random,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    line[PEAL_SECRET_SIZE] = '\n';
    ssize_t n = write(fd, line, PEAL_SECRET_SIZE + 1);
    sodium_memzero(random, sizeof random);
    sodium_memzero(line, sizeof line);
    if (n >= 0 && n != PEAL_SECRET_SIZE + 1) errno = ENOSPC;
    if (n != PEAL_SECRET_SIZE + 1) return fail_errno(path, "written", why, why_size);
    return fsync(fd) == 0 ? PEAL_OK : fail_errno(path, "synced", why, why_size);
}

/* Makes the file unless it is there. It gets its name only when it is complete, so that two
 * processes that start at once, or a crash, never leave half a secret. */
static enum peal_err make(const char *dir, const char *path, char *why, size_t why_size)
{
    char draft[4096 + 32];
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) return fail_errno(dir, "made", why, why_size);
    int size = snprintf(draft, sizeof draft, "%s.%08x", path, (unsigned)randombytes_random());
    if (size < 0 || (size_t)size >= sizeof draft) {
        snprintf(why, why_size, "the path of the data folder is too long");
        return PEAL_EIO;
    }
    int fd = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return fail_errno(path, "made", why, why_size);
    enum peal_err err = write_new(fd, path, why, why_size);
    close(fd);
    /* link and not rename: whoever came first has made the secret. */
    if (err == PEAL_OK && link(draft, path) != 0 && errno != EEXIST)
        err = fail_errno(path, "made", why, why_size);
    unlink(draft);
    return err == PEAL_OK ? sync_folder(dir, why, why_size) : err;
}

static enum peal_err read_secret(int fd, const char *path, struct peal_buf *out, char *why,
                                 size_t why_size)
{
    struct stat st;
    char text[FILE_BYTES_MAX];
    if (fstat(fd, &st) != 0) return fail_errno(path, "read", why, why_size);
    if (!S_ISREG(st.st_mode) || st.st_mode & 077) {
        snprintf(why, why_size,
                 "%s can be read by others: make it 0600, and take a new secret if others are "
                 "not trusted",
                 path);
        return PEAL_ECONFIG;
    }
    ssize_t n = read(fd, text, sizeof text);
    if (n < 0) return fail_errno(path, "read", why, why_size);
    size_t size = (size_t)n;
    if (size > 0 && text[size - 1] == '\n') size--;
    if (size > 0 && text[size - 1] == '\r') size--;
    if (size < SECRET_CHARS_MIN || n == sizeof text) {
        snprintf(why, why_size, "%s does not hold a secret of at least %d characters", path,
                 SECRET_CHARS_MIN);
        sodium_memzero(text, sizeof text);
        return PEAL_ECONFIG;
    }
    peal_buf_add(out, text, size);
    sodium_memzero(text, sizeof text);
    if (!out->failed) return PEAL_OK;
    snprintf(why, why_size, "out of memory");
    return PEAL_ENOMEM;
}

enum peal_err peal_secret_get(const char *dir, const char *file_name, struct peal_buf *out,
                              char *why, size_t why_size)
{
    char path[4096];
    int size = snprintf(path, sizeof path, "%s/%s", dir, file_name);
    if (size < 0 || (size_t)size >= sizeof path) {
        snprintf(why, why_size, "the path of the data folder is too long");
        return PEAL_EIO;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT) {
        enum peal_err err = make(dir, path, why, why_size);
        if (err != PEAL_OK) return err;
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    }
    if (fd < 0) return fail_errno(path, "read", why, why_size);
    enum peal_err err = read_secret(fd, path, out, why, why_size);
    close(fd);
    return err;
}
