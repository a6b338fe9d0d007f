/* cli/args.h: what the verbs have in common in reading their arguments. */
#ifndef PEAL_CLI_ARGS_H
#define PEAL_CLI_ARGS_H

#include <getopt.h>

#include "base/buf.h"
#include "base/err.h"

/* getopt_long without its own messages. Returns the option's `val`, -1 at the end, and '?' after
 * having said on stderr what is wrong. A verb starts with peal_args_start. */
void peal_args_start(void);
int peal_args_next(int argc, char **argv, const struct option *options);
/* For a verb that takes nothing but options. Returns the exit code: PEAL_EXIT_USAGE, with an error
 * printed, when anything is left. */
int peal_args_end(int argc, char **argv);

/* 90s, 250ms, 5m, 1h, 7d: a whole number above 0 with a unit, up to 36500d. Errors:
 * PEAL_EBAD_FIELD. */
enum peal_err peal_args_duration(const char *text, uint64_t *ms);
/* A whole number, min..max. Errors: PEAL_EBAD_FIELD. */
enum peal_err peal_args_number(const char *text, uint64_t min, uint64_t max, uint64_t *number);

/* An option that may be given more than once. */
struct peal_args_list {
    char **at;
    size_t count;
};
/* Borrows text. Errors: PEAL_ENOMEM. */
enum peal_err peal_args_list_add(struct peal_args_list *list, char *text);
void peal_args_list_fini(struct peal_args_list *list);

/* Reads the whole of path, `-` for stdin, appending to out. Errors: PEAL_EIO (errno says why),
 * PEAL_ETOO_LARGE, PEAL_ENOMEM. */
enum peal_err peal_args_read(const char *path, size_t max, struct peal_buf *out);

#endif
