#include "base/config_check.h"

#include <stdint.h>
#include <stdio.h>

#include "base/config.h"
#include "base/curve.h"
#include "base/limits.h"

enum { HOST_MAX = 256 };

/* Decodes the character at *at and moves behind it. 0 when it is not UTF-8, which also stands
 * for U+0000, as neither is allowed. */
static uint32_t take_character(const unsigned char **at, const unsigned char *end)
{
    const unsigned char *p = *at;
    uint32_t c = *p++;
    int more = c < 0x80 ? 0 : c >= 0xf0 && c < 0xf8 ? 3 : c >= 0xe0 ? 2 : 1;
    uint32_t least = more == 3 ? 0x10000 : more == 2 ? 0x800 : more == 1 ? 0x80 : 0;
    if (c >= 0xf8 || (c >= 0x80 && c < 0xc0) || end - p < more) return 0;
    if (more > 0) c &= 0x3fU >> more;
    for (int i = 0; i < more; i++, p++) {
        if ((*p & 0xc0) != 0x80) return 0;
        c = c << 6 | (*p & 0x3fU);
    }
    if (c < least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) return 0;
    *at = p;
    return c;
}

const char *peal_config_check_text(struct peal_span text)
{
    const unsigned char *p = (const unsigned char *)text.at;
    const unsigned char *end = p + text.size;
    while (p < end) {
        uint32_t c = take_character(&p, end);
        if (c == 0) return "is not UTF-8 without NUL";
        /* Line separators, the byte order mark and what is no character have no place in YAML. */
        if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == 0xfeff ||
            c == 0xfffe || c == 0xffff)
            return "has a control character";
    }
    return NULL;
}

const char *peal_config_check_endpoint(const char *text)
{
    char host[HOST_MAX];
    uint16_t port;
    if (peal_config_endpoint(text, host, sizeof host, &port) == PEAL_OK) return NULL;
    return "is not host:port or [ipv6]:port";
}

const char *peal_config_check_door(const char *text)
{
    struct peal_span all = peal_span_of(text);
    if (all.size > HOST_MAX) return "is too long for an endpoint";
    for (size_t i = 0; i < all.size; i++)
        if (text[i] <= ' ' || text[i] == 0x7f) return "is not an endpoint: it has a blank";
    if (peal_span_starts(all, "ipc://") && all.size > 6) return NULL;
    if (peal_span_starts(all, "inproc://") && all.size > 9) return NULL;
    if (!peal_span_starts(all, "tcp://")) return "does not begin with tcp://, ipc:// or inproc://";

    /* ZeroMQ's own wildcards: * for every address, and for a port that the kernel chooses. */
    const char *host = text + 6;
    const char *colon = strrchr(host, ':');
    if (colon == NULL) return "is not tcp://host:port";
    int host_size = (int)(colon - host);
    bool any_host = host_size == 1 && *host == '*';
    char plain[HOST_MAX + 16];
    snprintf(plain, sizeof plain, "%.*s:%s", any_host ? 3 : host_size, any_host ? "any" : host,
             strcmp(colon, ":*") == 0 ? "0" : colon + 1);
    return peal_config_check_endpoint(plain) == NULL ? NULL : "is not tcp://host:port";
}

bool peal_config_any_port(const char *door)
{
    size_t size = strlen(door);
    return strncmp(door, "tcp://", 6) == 0 &&
           (strcmp(door + size - 2, ":*") == 0 || strcmp(door + size - 2, ":0") == 0);
}

const char *peal_config_check_curve_key(const char *text)
{
    unsigned char key[PEAL_CURVE_KEY_BYTES];
    if (peal_curve_decode(peal_span_of(text), key)) return NULL;
    return "is not a public key: 40 characters of Z85, as peal keygen prints it";
}

const char *peal_config_check_self(const char *text)
{
    size_t size = strlen(text);
    if (strcmp(text, "auto") == 0) return NULL;
    if (size <= 4 && strspn(text, "0123456789") == size) return NULL;
    return "is neither the number of a router nor auto";
}

const char *peal_config_check_api_key(const char *text)
{
    size_t size = strlen(text);
    /* It travels in `Authorization: Bearer <key>`. */
    for (size_t i = 0; i < size; i++)
        if (text[i] <= ' ' || text[i] >= 0x7f) return "may have only printable ASCII, no blanks";
    if (strncmp(text, "sha256:", 7) != 0) return NULL;
    if (size == 7 + 64 && strspn(text + 7, "0123456789abcdef") == 64) return NULL;
    return "needs 64 lower-case hex digits after sha256:";
}

/* Are braces paired, not nested, and around a name of letters, digits and _? */
static const char *check_braces(const char *text)
{
    static const char name[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    for (const char *p = text; (p = strpbrk(p, "{}")) != NULL; p++) {
        if (*p == '}') return "has a } without a {";
        size_t size = strspn(p + 1, name);
        if (size == 0 || size > 64) return "has a capture that is not {name}";
        p += 1 + size;
        if (*p != '}') return "has a capture that is not {name}";
        if (p[1] == '{') return "has two captures side by side";
    }
    return NULL;
}

struct peal_span peal_config_capture(const char **at)
{
    const char *open = strchr(*at, '{');
    if (open == NULL) return (struct peal_span){NULL, 0};
    size_t size = strcspn(open + 1, "}");
    *at = open + 1 + size;
    return peal_span_make(open + 1, size);
}

const char *peal_config_check_path(const char *text)
{
    if (text[0] != '/') return "does not begin with /";
    if (strpbrk(text, "?#") != NULL) return "has a ? or #: a path ends before them";
    const char *wrong = check_braces(text);
    if (wrong != NULL) return wrong;
    for (const char *p = text; (p = strchr(p, '{')) != NULL; p++) {
        const char *close = strchr(p, '}');
        if (p[-1] != '/' || (close[1] != '/' && close[1] != '\0'))
            return "has a capture that is not a whole segment";
        struct peal_span name = peal_span_make(p + 1, (size_t)(close - p - 1));
        if (peal_span_is(name, "identity")) return "uses {identity}, which means the user";
        const char *after = close;
        for (struct peal_span other; (other = peal_config_capture(&after)).at != NULL;)
            if (peal_span_equal(name, other)) return "has the same capture twice";
    }
    return NULL;
}

const char *peal_config_check_template(const char *text)
{
    if (strlen(text) > PEAL_NAME_MAX) return "is longer than the name of a group can be";
    if (strncmp(text, "sys:", 4) == 0) return "begins with sys:, which nobody joins";
    return check_braces(text);
}

const char *peal_config_check_pattern(const char *text)
{
    const char *star = strchr(text, '*');
    if (strlen(text) > PEAL_NAME_MAX) return "is longer than the name of a group can be";
    if (star != NULL && star[1] != '\0') return "has a * that is not at the end";
    return check_braces(text);
}

const char *peal_config_check_origin(const char *text)
{
    static const char shape[] = "is not an origin such as https://example.com:8443";
    const char *host = strstr(text, "://");
    if (host == NULL || host == text || host[3] == '\0') return shape;
    /* A browser sends no path, no upper case and no blank; such an entry would never match. */
    for (const char *p = text; *p != '\0'; p++)
        if (*p <= ' ' || *p >= 0x7f || (*p >= 'A' && *p <= 'Z')) return shape;
    return strpbrk(host + 3, "/?#@") != NULL ? shape : NULL;
}
