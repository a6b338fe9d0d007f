#include "cli/exit.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/json.h"
#include "proto/json_check.h"

int peal_fail(int exit_code, const char *code, const char *format, ...)
{
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    /* Some of it may come from a server; a terminal must not obey it. */
    for (char *c = message; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f) *c = '?';
    fprintf(stderr, "peal: %s: %s\n", code, message);
    return exit_code;
}

int peal_fail_call(enum peal_err err, const char *why)
{
    if (err == PEAL_EBAD_FIELD) return peal_fail(PEAL_EXIT_USAGE, "usage", "%s", why);
    const char *code = err == PEAL_EIO ? "unavailable" : peal_err_word(err);
    return peal_fail(PEAL_EXIT_UNAVAILABLE, code, "%s", why);
}

static void text_read(const struct peal_json *json, const char *name, char *out, size_t out_size)
{
    const struct peal_json_field *field = peal_json_get(json, name);
    struct peal_buf text = {0};
    if (field != NULL && peal_json_string(field->value, &text) == PEAL_OK && text.size > 0)
        snprintf(out, out_size, "%.*s", (int)text.size, text.at);
    peal_buf_fini(&text);
}

/* A code is one word on every interface; what is none is not from Peal. */
static bool is_word(const char *text)
{
    return text[0] != '\0' && text[strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_-")] == '\0';
}

int peal_fail_answer(const struct peal_client_answer *answer)
{
    struct peal_json outer;
    struct peal_json inner;
    char code[64] = "";
    char message[512] = "";
    bool later = answer->status >= 500 || answer->status == 429;
    if (peal_json_check(peal_buf_span(&answer->body), NULL, 0) == PEAL_OK &&
        peal_json_object(peal_buf_span(&answer->body), &outer) == PEAL_OK) {
        const struct peal_json_field *error = peal_json_get(&outer, "error");
        if (error != NULL && peal_json_object(error->value, &inner) == PEAL_OK) {
            text_read(&inner, "code", code, sizeof code);
            text_read(&inner, "message", message, sizeof message);
        }
    }
    if (!is_word(code)) snprintf(code, sizeof code, "refused");
    if (message[0] == '\0')
        snprintf(message, sizeof message, "The server answered with status %d.", answer->status);
    return peal_fail(later ? PEAL_EXIT_UNAVAILABLE : PEAL_EXIT_REFUSED, code, "%s", message);
}

int peal_print(struct peal_span text)
{
    if (fwrite(text.at, 1, text.size, stdout) == text.size && fflush(stdout) == 0)
        return PEAL_EXIT_OK;
    return peal_fail(PEAL_EXIT_UNAVAILABLE, "io_error", "stdout: %s", strerror(errno));
}

int peal_print_line(struct peal_span json)
{
    struct peal_buf line = {0};
    peal_buf_add_span(&line, json);
    for (size_t i = 0; i < line.size; i++)
        if (line.at[i] == '\n' || line.at[i] == '\r') line.at[i] = ' ';
    while (line.size > 0 && line.at[line.size - 1] == ' ')
        line.size--;
    peal_buf_add_char(&line, '\n');
    int rc = line.failed ? peal_fail_call(PEAL_ENOMEM, "There is not enough memory.")
                         : peal_print(peal_buf_span(&line));
    peal_buf_fini(&line);
    return rc;
}
