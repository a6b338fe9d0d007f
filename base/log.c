#include "base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 1024 };

static enum peal_log_level level_max = PEAL_LOG_INFO;

void peal_log_set_level(enum peal_log_level level)
{
    level_max = level;
}

static size_t format_time(char *out, size_t size)
{
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &utc);
    return n + (size_t)snprintf(out + n, size - n, ".%03ldZ", now.tv_nsec / 1000000);
}

static size_t clamp(int written, size_t room)
{
    if (written < 0) return 0;
    return (size_t)written < room ? (size_t)written : room - 1;
}

void peal_log(enum peal_log_level level, const char *event, const char *format, ...)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    if (level > level_max) return;

    char line[LINE_MAX_BYTES];
    size_t room = sizeof line - 1; /* one byte is kept for the newline */
    size_t n = format_time(line, room);
    n += clamp(snprintf(line + n, room - n, " %s %s%s", names[level], event, *format ? " " : ""),
               room - n);
    va_list args;
    va_start(args, format);
    n += clamp(vsnprintf(line + n, room - n, format, args), room - n);
    va_end(args);
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, n) < 0) return; /* nowhere left to complain to */
}

const char *peal_log_quote(struct peal_span text, char *out, size_t out_size)
{
    static const char hex[] = "0123456789abcdef";
    bool plain = text.size > 0;
    for (size_t i = 0; i < text.size && plain; i++) {
        unsigned char c = (unsigned char)text.at[i];
        plain = c > ' ' && c < 0x7f && c != '"' && c != '\\' && c != '=';
    }
    size_t n = 0;
    if (!plain && out_size > 2) out[n++] = '"';
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if (n + 6 > out_size) break;
        if (c == '"' || c == '\\') {
            out[n++] = '\\';
            out[n++] = (char)c;
        } else if (c < ' ' || c >= 0x7f) {
            out[n++] = '\\';
            out[n++] = 'x';
            out[n++] = hex[c >> 4];
            out[n++] = hex[c & 15];
        } else {
            out[n++] = (char)c;
        }
    }
    if (!plain && n + 1 < out_size) out[n++] = '"';
    out[n < out_size ? n : out_size - 1] = '\0';
    return out;
}
