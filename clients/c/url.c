#include "clients/c/url.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

bool peal_url_printable(const char *text)
{
    for (; *text != '\0'; text++)
        if (*text <= ' ' || *text >= 0x7f) return false;
    return true;
}

static bool copy(char *to, size_t room, const char *at, size_t size)
{
    if (size == 0 || size >= room) return false;
    memcpy(to, at, size);
    to[size] = '\0';
    return true;
}

static bool port_read(const char *at, size_t size, uint16_t *port)
{
    unsigned number = 0;
    if (size == 0 || size > 5) return false;
    for (size_t i = 0; i < size; i++) {
        if (at[i] < '0' || at[i] > '9') return false;
        number = number * 10 + (unsigned)(at[i] - '0');
    }
    *port = (uint16_t)number;
    return number >= 1 && number <= UINT16_MAX;
}

/* Names, IPv4 addresses, and what stands between the brackets of an IPv6 address. */
static bool host_check(const char *host, bool bracketed)
{
    return host[strspn(host, bracketed ? "0123456789abcdefABCDEF:."
                                       : "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                         "0123456789-._")] == '\0';
}

/* host, host:port, [v6] or [v6]:port; out->port holds the default. */
static bool authority_read(const char *at, size_t size, struct peal_url *out)
{
    bool bracketed = size > 0 && at[0] == '[';
    const char *end = at + size;
    const char *host = bracketed ? at + 1 : at;
    const char *host_end = memchr(host, bracketed ? ']' : ':', (size_t)(end - host));
    if (bracketed && host_end == NULL) return false;
    if (host_end == NULL) host_end = end;
    const char *port = bracketed ? host_end + 1 : host_end;
    if (!copy(out->authority, sizeof out->authority, at, size)) return false;
    if (!copy(out->host, sizeof out->host, host, (size_t)(host_end - host))) return false;
    if (!host_check(out->host, bracketed)) return false;
    if (port == end) return true;
    return *port == ':' && port_read(port + 1, (size_t)(end - port - 1), &out->port);
}

enum peal_err peal_url_ws(const char *text, struct peal_url *out)
{
    *out = (struct peal_url){0};
    if (!peal_url_printable(text) || strchr(text, '#') != NULL) return PEAL_EBAD_FIELD;
    if (strncasecmp(text, "ws://", 5) == 0) {
        out->port = 80;
        text += 5;
    } else if (strncasecmp(text, "wss://", 6) == 0) {
        out->port = 443;
        out->tls = true;
        text += 6;
    } else {
        return PEAL_EBAD_FIELD;
    }
    size_t size = strcspn(text, "/?");
    if (!authority_read(text, size, out)) return PEAL_EBAD_FIELD;
    text += size;
    /* ws://host?x=1 is allowed and means the path `/`. */
    size_t slash = *text == '/' ? 0 : 1;
    if (strlen(text) + slash >= sizeof out->path) return PEAL_EBAD_FIELD;
    out->path[0] = '/';
    strcpy(out->path + slash, text);
    return PEAL_OK;
}

enum peal_err peal_url_join(const char *base, const char *path, struct peal_buf *out)
{
    struct peal_url parts = {0};
    size_t scheme = 0;
    if (strncasecmp(base, "http://", 7) == 0) scheme = 7;
    if (strncasecmp(base, "https://", 8) == 0) scheme = 8;
    if (scheme == 0 || !peal_url_printable(base)) return PEAL_EBAD_FIELD;
    size_t size = strcspn(base + scheme, "/?#");
    const char *rest = base + scheme + size;
    if (strcmp(rest, "") != 0 && strcmp(rest, "/") != 0) return PEAL_EBAD_FIELD;
    if (!authority_read(base + scheme, size, &parts)) return PEAL_EBAD_FIELD;
    peal_buf_add(out, base, scheme + size);
    if (*path != '/') peal_buf_add_char(out, '/');
    peal_buf_add_text(out, path);
    return out->failed ? PEAL_ENOMEM : PEAL_OK;
}

static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '~' || c == '.';
}

void peal_url_segment(const char *text, struct peal_buf *out)
{
    bool dots = strcmp(text, ".") == 0 || strcmp(text, "..") == 0;
    for (; *text != '\0'; text++)
        if (is_unreserved(*text) && !dots)
            peal_buf_add_char(out, *text);
        else
            peal_buf_add_format(out, "%%%02X", (unsigned char)*text);
}
