#include "node/reply.h"

static const char *status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {
        {200, "OK"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {409, "Conflict"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].status == status) return texts[i].text;
    return "Error";
}

/* In whole seconds, and never at once. */
static uint64_t retry_after_s(const struct peal_reply *r)
{
    uint64_t s = (r->after_ms + 999) / 1000;
    return s == 0 ? 1 : s;
}

void peal_reply_add(struct peal_buf *out, const struct peal_reply *r)
{
    peal_buf_add_format(out,
                        "HTTP/1.1 %d %s\r\n"
                        "Content-Type: %s\r\n"
                        "Content-Length: %zu\r\n"
                        "Cache-Control: no-store\r\n"
                        "X-Content-Type-Options: nosniff\r\n",
                        r->status, status_text(r->status), r->type, r->body.size);
    if (r->page)
        peal_buf_add_text(out,
                          "Referrer-Policy: no-referrer\r\n"
                          "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; "
                          "script-src 'unsafe-inline'; connect-src 'self' ws: wss:; img-src data:; "
                          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n");
    if (r->status == 401) peal_buf_add_text(out, "WWW-Authenticate: Bearer\r\n");
    if (r->status == 426)
        peal_buf_add_text(out, "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
    if (r->status == 429 || r->status == 503)
        peal_buf_add_format(out, "Retry-After: %ju\r\n", (uintmax_t)retry_after_s(r));
    if (r->allow != NULL) peal_buf_add_format(out, "Allow: %s\r\n", r->allow);
    peal_buf_add_text(out, r->close ? "Connection: close\r\n\r\n" : "\r\n");
    if (!r->head_only) peal_buf_add_span(out, r->body);
}
