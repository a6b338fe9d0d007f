#include "base/curve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "base/assert.h"

enum { FILE_BYTES_MAX = 4096, GROUP = 5, GROUP_BYTES = 4 };

static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                             ".-:+=^!/*?&<>()[]{}@%$#";
_Static_assert(sizeof digits == 85 + 1, "Z85 has 85 digits");
_Static_assert(PEAL_CURVE_KEY_BYTES / GROUP_BYTES * GROUP == PEAL_CURVE_TEXT, "five for four");
_Static_assert(PEAL_CURVE_KEY_BYTES == crypto_box_PUBLICKEYBYTES, "the same curve");
_Static_assert(PEAL_CURVE_KEY_BYTES == crypto_box_SECRETKEYBYTES, "the same curve");

/* ---- Z85 ------------------------------------------------------------------------------------ */

bool peal_curve_decode(struct peal_span text, unsigned char key[PEAL_CURVE_KEY_BYTES])
{
    if (text.size != PEAL_CURVE_TEXT) return false;
    for (size_t group = 0; group < PEAL_CURVE_TEXT / GROUP; group++) {
        uint64_t value = 0;
        for (size_t i = 0; i < GROUP; i++) {
            char c = text.at[group * GROUP + i];
            const char *digit = c == '\0' ? NULL : strchr(digits, c);
            if (digit == NULL) return false;
            value = value * 85 + (uint64_t)(digit - digits);
        }
        if (value > UINT32_MAX) return false; /* 85^5 is more than 2^32 */
        for (size_t i = 0; i < GROUP_BYTES; i++)
            key[group * GROUP_BYTES + i] = (unsigned char)(value >> (24 - 8 * i));
    }
    return true;
}

void peal_curve_encode(const unsigned char key[PEAL_CURVE_KEY_BYTES],
                       char text[PEAL_CURVE_TEXT + 1])
{
    for (size_t group = 0; group < PEAL_CURVE_TEXT / GROUP; group++) {
        uint32_t value = 0;
        for (size_t i = 0; i < GROUP_BYTES; i++)
            value = value << 8 | key[group * GROUP_BYTES + i];
        for (size_t i = GROUP; i-- > 0; value /= 85)
            text[group * GROUP + i] = digits[value % 85];
    }
    text[PEAL_CURVE_TEXT] = '\0';
}

/* ---- pairs ---------------------------------------------------------------------------------- */

enum peal_err peal_curve_make(struct peal_curve_pair *out)
{
    unsigned char public_key[PEAL_CURVE_KEY_BYTES];
    unsigned char secret_key[PEAL_CURVE_KEY_BYTES];
    if (sodium_init() < 0) return PEAL_EIO;
    crypto_box_keypair(public_key, secret_key);
    peal_curve_encode(public_key, out->public_key);
    peal_curve_encode(secret_key, out->secret_key);
    sodium_memzero(secret_key, sizeof secret_key);
    return PEAL_OK;
}

void peal_curve_wipe(struct peal_curve_pair *pair)
{
    sodium_memzero(pair, sizeof *pair);
}

/* A pair whose halves do not belong together would only be refused by every peer, unexplained. */
static bool is_pair(const struct peal_curve_pair *pair)
{
    unsigned char secret_key[PEAL_CURVE_KEY_BYTES];
    unsigned char public_key[PEAL_CURVE_KEY_BYTES];
    char text[PEAL_CURVE_TEXT + 1];
    bool good = peal_curve_decode(peal_span_of(pair->secret_key), secret_key);
    PEAL_ASSERT(good); /* was decoded before */
    good = crypto_scalarmult_base(public_key, secret_key) == 0;
    sodium_memzero(secret_key, sizeof secret_key);
    peal_curve_encode(public_key, text);
    return good && strcmp(text, pair->public_key) == 0;
}

/* ---- the text of a file --------------------------------------------------------------------- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct peal_span trim(struct peal_span text)
{
    while (text.size > 0 && is_blank(text.at[0]))
        text = peal_span_make(text.at + 1, text.size - 1);
    while (text.size > 0 && is_blank(text.at[text.size - 1]))
        text.size--;
    return text;
}

/* NULL, or what is wrong with the line. */
static const char *parse_line(struct peal_span line, struct peal_curve_pair *out)
{
    unsigned char key[PEAL_CURVE_KEY_BYTES];
    bool public = peal_span_starts(line, "public ");
    if (!public && !peal_span_starts(line, "secret "))
        return "expected `public` or `secret` and a key";
    char *to = public ? out->public_key : out->secret_key;
    if (to[0] != '\0') return "this key is given twice";
    struct peal_span text = trim(peal_span_make(line.at + 7, line.size - 7));
    bool good = peal_curve_decode(text, key);
    sodium_memzero(key, sizeof key);
    if (!good) return "the key is not 40 characters of Z85";
    memcpy(to, text.at, PEAL_CURVE_TEXT);
    return NULL;
}

enum peal_err peal_curve_parse(struct peal_span text, struct peal_curve_pair *out, char *why,
                               size_t why_size)
{
    const char *wrong = NULL;
    size_t number = 0;
    *out = (struct peal_curve_pair){0};
    while (text.size > 0 && wrong == NULL) {
        const char *end = memchr(text.at, '\n', text.size);
        size_t size = end == NULL ? text.size : (size_t)(end - text.at);
        struct peal_span line = trim(peal_span_make(text.at, size));
        number++;
        if (line.size > 0 && line.at[0] != '#') wrong = parse_line(line, out);
        size += end != NULL;
        text = peal_span_make(text.at + size, text.size - size);
    }
    if (wrong == NULL && out->public_key[0] == '\0') wrong = "there is no line `public KEY`";
    if (wrong == NULL && out->secret_key[0] == '\0') wrong = "there is no line `secret KEY`";
    if (wrong == NULL && !is_pair(out)) wrong = "the two keys are not a pair";
    if (wrong == NULL) return PEAL_OK;
    snprintf(why, why_size, "%zu: %s", number == 0 ? 1 : number, wrong);
    peal_curve_wipe(out);
    return PEAL_ECONFIG;
}

/* ---- the file ------------------------------------------------------------------------------- */

static enum peal_err fail_errno(const char *path, const char *what, char *why, size_t why_size)
{
    snprintf(why, why_size, "%s cannot be %s: %s", path, what, strerror(errno));
    return PEAL_EIO;
}

static enum peal_err check_owner(int fd, const char *path, char *why, size_t why_size)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return fail_errno(path, "read", why, why_size);
    unsigned mode = st.st_mode & 07777;
    if (!S_ISREG(st.st_mode))
        snprintf(why, why_size, "%s is not a regular file", path);
    else if (st.st_uid != geteuid())
        snprintf(why, why_size, "%s belongs to user %u, and this process runs as user %u", path,
                 (unsigned)st.st_uid, (unsigned)geteuid());
    else if (mode != 0600 && mode != 0400)
        snprintf(why, why_size,
                 "%s has mode %04o and must have 0600 or 0400; take new keys if others could read "
                 "these",
                 path, mode);
    else
        return PEAL_OK;
    return PEAL_ECONFIG;
}

static enum peal_err read_pair(int fd, const char *path, struct peal_curve_pair *out, char *why,
                               size_t why_size)
{
    char text[FILE_BYTES_MAX];
    char wrong[128];
    size_t size = 0;
    ssize_t n;
    while (size < sizeof text && (n = read(fd, text + size, sizeof text - size)) != 0) {
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(path, "read", why, why_size);
        size += (size_t)n;
    }
    enum peal_err err = peal_curve_parse(peal_span_make(text, size), out, wrong, sizeof wrong);
    sodium_memzero(text, sizeof text);
    if (err != PEAL_OK) snprintf(why, why_size, "%s:%s", path, wrong);
    return err;
}

enum peal_err peal_curve_read(const char *path, struct peal_curve_pair *out, char *why,
                              size_t why_size)
{
    *out = (struct peal_curve_pair){0};
    /* O_NONBLOCK: a FIFO must fail the test, not hang. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return fail_errno(path, "read", why, why_size);
    enum peal_err err = check_owner(fd, path, why, why_size);
    if (err == PEAL_OK) err = read_pair(fd, path, out, why, why_size);
    close(fd);
    return err;
}

static enum peal_err sync_folder(const char *path, char *why, size_t why_size)
{
    char *folder = strdup(path);
    if (folder == NULL) return fail_errno(path, "synced", why, why_size);
    char *slash = strrchr(folder, '/');
    if (slash != NULL) slash[slash == folder ? 1 : 0] = '\0';
    int fd = open(slash == NULL ? "." : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum peal_err err =
        fd >= 0 && fsync(fd) == 0 ? PEAL_OK : fail_errno(folder, "synced", why, why_size);
    if (fd >= 0) close(fd);
    free(folder);
    return err;
}

enum peal_err peal_curve_write(const char *path, const struct peal_curve_pair *pair, char *why,
                               size_t why_size)
{
    char text[256];
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST) {
        snprintf(why, why_size, "%s exists and is not replaced", path);
        return PEAL_EINUSE;
    }
    if (fd < 0) return fail_errno(path, "made", why, why_size);
    int size = snprintf(text, sizeof text,
                        "# CURVE keys of one process of Peal; nobody else may read this file.\n"
                        "public %s\nsecret %s\n",
                        pair->public_key, pair->secret_key);
    PEAL_ASSERT(size > 0 && (size_t)size < sizeof text);
    /* fchmod: the umask of who runs this may take away even the owner's rights. */
    enum peal_err err = PEAL_OK;
    errno = ENOSPC; /* of a short write */
    if (fchmod(fd, 0600) != 0 || write(fd, text, (size_t)size) != size || fsync(fd) != 0)
        err = fail_errno(path, "written", why, why_size);
    sodium_memzero(text, sizeof text);
    close(fd);
    if (err == PEAL_OK) err = sync_folder(path, why, why_size);
    if (err != PEAL_OK) unlink(path); /* half a file would only be in the way */
    return err;
}
