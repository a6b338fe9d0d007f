#include "base/peers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"

enum { FILE_BYTES_MAX = 16 << 20, ROOM_MIN = 64 };

static const char name_characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                      "0123456789._-";

const char *peal_role_word(enum peal_role role)
{
    return role == PEAL_ROLE_NODE ? "node" : "publisher";
}

/* ---- one line ------------------------------------------------------------------------------- */

static struct peal_span take_word(struct peal_span *line)
{
    const char *at = line->at;
    const char *end = at + line->size;
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r'))
        at++;
    const char *word = at;
    while (at < end && *at != ' ' && *at != '\t' && *at != '\r')
        at++;
    *line = peal_span_make(at, (size_t)(end - at));
    return peal_span_make(word, (size_t)(at - word));
}

static bool parse_role(struct peal_span word, enum peal_role *role)
{
    bool node = peal_span_is(word, "node");
    *role = node ? PEAL_ROLE_NODE : PEAL_ROLE_PUBLISHER;
    return node || peal_span_is(word, "publisher");
}

static bool parse_name(struct peal_span word, char *name)
{
    if (word.size > PEAL_PEER_NAME_MAX) return false;
    for (size_t i = 0; i < word.size; i++)
        if (word.at[i] == '\0' || strchr(name_characters, word.at[i]) == NULL) return false;
    if (word.size > 0) memcpy(name, word.at, word.size);
    return true;
}

/* NULL, or what is wrong; *found says whether the line names a peer. */
static const char *parse_line(struct peal_span line, struct peal_peers_entry *entry, bool *found)
{
    *found = false;
    struct peal_span key = take_word(&line);
    struct peal_span role = take_word(&line);
    if (key.size == 0 || key.at[0] == '#') return NULL;
    if (!peal_curve_decode(key, entry->key)) return "the key is not 40 characters of Z85";
    if (role.size == 0) return "there is no role behind the key: publisher or node";
    if (!parse_role(role, &entry->role)) return "the role is neither publisher nor node";
    if (!parse_name(take_word(&line), entry->name))
        return "the name is not 1 to 64 letters, digits, dots, - or _";
    if (take_word(&line).size > 0) return "there is something behind the name";
    *found = true;
    return NULL;
}

/* ---- the list ------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    return memcmp(((const struct peal_peers_entry *)a)->key,
                  ((const struct peal_peers_entry *)b)->key, PEAL_CURVE_KEY_BYTES);
}

static enum peal_err add(struct peal_peers *peers, size_t *room,
                         const struct peal_peers_entry *entry)
{
    if (peers->count == *room) {
        size_t more = *room == 0 ? ROOM_MIN : *room * 2;
        struct peal_peers_entry *at = realloc(peers->at, more * sizeof *at);
        if (at == NULL) return PEAL_ENOMEM;
        peers->at = at;
        *room = more;
    }
    peers->at[peers->count++] = *entry;
    return PEAL_OK;
}

static enum peal_err check_twice(const struct peal_peers *peers, char *why, size_t why_size)
{
    for (size_t i = 1; i < peers->count; i++) {
        const struct peal_peers_entry *a = &peers->at[i - 1];
        const struct peal_peers_entry *b = &peers->at[i];
        if (compare(a, b) != 0) continue;
        bool ordered = a->line < b->line;
        snprintf(why, why_size, "%zu: the key of line %zu again", ordered ? b->line : a->line,
                 ordered ? a->line : b->line);
        return PEAL_ECONFIG;
    }
    return PEAL_OK;
}

enum peal_err peal_peers_parse(struct peal_span text, struct peal_peers *out, char *why,
                               size_t why_size)
{
    enum peal_err err = PEAL_OK;
    size_t room = 0;
    *out = (struct peal_peers){0};
    for (size_t line = 1; text.size > 0 && err == PEAL_OK; line++) {
        struct peal_peers_entry entry = {.line = line};
        const char *end = memchr(text.at, '\n', text.size);
        size_t size = end == NULL ? text.size : (size_t)(end - text.at);
        bool found;
        const char *wrong = parse_line(peal_span_make(text.at, size), &entry, &found);
        if (wrong == NULL && found && out->count == PEAL_PEERS_MAX) wrong = "too many peers";
        if (wrong != NULL) {
            snprintf(why, why_size, "%zu: %s", line, wrong);
            err = PEAL_ECONFIG;
        } else if (found) {
            snprintf(why, why_size, "%zu: out of memory", line);
            err = add(out, &room, &entry);
        }
        size += end != NULL;
        text = peal_span_make(text.at + size, text.size - size);
    }
    if (err == PEAL_OK && out->count > 1) {
        qsort(out->at, out->count, sizeof *out->at, compare);
        err = check_twice(out, why, why_size);
    }
    if (err != PEAL_OK) peal_peers_fini(out);
    return err;
}

void peal_peers_fini(struct peal_peers *peers)
{
    free(peers->at);
    *peers = (struct peal_peers){0};
}

const struct peal_peers_entry *peal_peers_find(const struct peal_peers *peers,
                                               const unsigned char key[PEAL_CURVE_KEY_BYTES])
{
    struct peal_peers_entry wanted;
    if (peers->count == 0) return NULL;
    memcpy(wanted.key, key, sizeof wanted.key);
    return bsearch(&wanted, peers->at, peers->count, sizeof *peers->at, compare);
}

/* ---- the file ------------------------------------------------------------------------------- */

/* Appends what is behind fd. NULL, or what is wrong. */
static const char *read_all(int fd, struct peal_buf *out)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return strerror(errno);
    if (!S_ISREG(st.st_mode)) return "not a regular file";
    /* Whoever may write it decides who may connect. */
    if (st.st_mode & 022) return "others may write to it";
    for (;;) {
        char *to = peal_buf_reserve(out, 65536);
        if (to == NULL) return "out of memory";
        ssize_t n = read(fd, to, 65536);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return strerror(errno);
        if (n == 0) return NULL;
        out->size += (size_t)n;
        if (out->size > FILE_BYTES_MAX) return "too large";
    }
}

enum peal_err peal_peers_read(const char *path, struct peal_peers *out, char *why, size_t why_size)
{
    struct peal_buf text = {0};
    char wrong[160];
    *out = (struct peal_peers){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    const char *failed = fd < 0 ? strerror(errno) : read_all(fd, &text);
    if (fd >= 0) close(fd);
    enum peal_err err = PEAL_EIO;
    if (failed != NULL) {
        snprintf(why, why_size, "%s cannot be used: %s", path, failed);
    } else {
        err = peal_peers_parse(peal_buf_span(&text), out, wrong, sizeof wrong);
        if (err != PEAL_OK) snprintf(why, why_size, "%s:%s", path, wrong);
    }
    peal_buf_fini(&text);
    return err;
}
