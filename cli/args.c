#include "cli/args.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/exit.h"

void peal_args_start(void)
{
    opterr = 0;
    optind = 0; /* glibc: start over, also within an argument */
}

/* -c is --config, for the verbs that have one; -h is always --help. */
static const char *short_options(const struct option *options)
{
    for (; options->name != NULL; options++)
        if (options->val == 'c') return ":c:h";
    return ":h";
}

int peal_args_next(int argc, char **argv, const struct option *options)
{
    int option = getopt_long(argc, argv, short_options(options), options, NULL);
    if (option != '?' && option != ':') return option;
    const char *what = argv[optind - 1];
    if (option == ':')
        peal_fail(PEAL_EXIT_USAGE, "usage", "%s needs a value; see peal %s --help", what, argv[0]);
    else if (optopt == 0)
        peal_fail(PEAL_EXIT_USAGE, "usage", "unknown option %s; see peal %s --help", what, argv[0]);
    else if (strncmp(what, "--", 2) == 0)
        peal_fail(PEAL_EXIT_USAGE, "usage", "%s: this option has no value", what);
    else
        peal_fail(PEAL_EXIT_USAGE, "usage", "unknown option -%c; see peal %s --help", optopt,
                  argv[0]);
    return '?';
}

int peal_args_end(int argc, char **argv)
{
    if (argc == optind) return PEAL_EXIT_OK;
    return peal_fail(PEAL_EXIT_USAGE, "usage", "\"%s\" is one argument too many", argv[optind]);
}

enum peal_err peal_args_number(const char *text, uint64_t min, uint64_t max, uint64_t *number)
{
    uint64_t n = 0;
    if (*text == '\0') return PEAL_EBAD_FIELD;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') return PEAL_EBAD_FIELD;
        uint64_t digit = (uint64_t)(*text - '0');
        if (n > (UINT64_MAX - digit) / 10) return PEAL_EBAD_FIELD;
        n = n * 10 + digit;
    }
    if (n < min || n > max) return PEAL_EBAD_FIELD;
    *number = n;
    return PEAL_OK;
}

enum peal_err peal_args_duration(const char *text, uint64_t *ms)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    const uint64_t most = UINT64_C(36500) * 86400000;
    char digits[21];
    size_t size = strspn(text, "0123456789");
    if (size >= sizeof digits) return PEAL_EBAD_FIELD;
    memcpy(digits, text, size);
    digits[size] = '\0';
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(text + size, units[i].unit) != 0) continue;
        enum peal_err err = peal_args_number(digits, 1, most / units[i].ms, ms);
        if (err == PEAL_OK) *ms *= units[i].ms;
        return err;
    }
    return PEAL_EBAD_FIELD;
}

enum peal_err peal_args_list_add(struct peal_args_list *list, char *text)
{
    char **at = realloc(list->at, (list->count + 1) * sizeof *at);
    if (at == NULL) return PEAL_ENOMEM;
    list->at = at;
    at[list->count++] = text;
    return PEAL_OK;
}

void peal_args_list_fini(struct peal_args_list *list)
{
    free(list->at);
    *list = (struct peal_args_list){0};
}

/* Ends with PEAL_OK at the end of the file. */
static enum peal_err file_read(FILE *file, size_t max, struct peal_buf *out)
{
    for (size_t total = 0;;) {
        size_t room = 64 * 1024;
        char *to = peal_buf_reserve(out, room);
        if (to == NULL) return PEAL_ENOMEM;
        size_t size = fread(to, 1, room, file);
        out->size += size;
        total += size;
        if (total > max) return PEAL_ETOO_LARGE;
        if (ferror(file)) return PEAL_EIO;
        if (size < room) return PEAL_OK;
    }
}

enum peal_err peal_args_read(const char *path, size_t max, struct peal_buf *out)
{
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(path, "re");
    if (file == NULL) return PEAL_EIO;
    enum peal_err err = file_read(file, max, out);
    int saved = errno;
    if (!is_stdin) fclose(file);
    errno = saved;
    return err;
}
