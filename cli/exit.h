/* cli/exit.h: how a verb ends: exit codes, and errors on stderr.
 *
 * Source: sysexits.h for the numbers. */
#ifndef PEAL_CLI_EXIT_H
#define PEAL_CLI_EXIT_H

#include <stdbool.h>

#include "clients/c/peal.h"

enum {
    PEAL_EXIT_OK = 0,
    PEAL_EXIT_REFUSED = 1,      /* a server said no, and would say it again */
    PEAL_EXIT_USAGE = 64,       /* the command line cannot be understood */
    PEAL_EXIT_DAMAGED = 65,     /* what was read is not what it should be */
    PEAL_EXIT_UNAVAILABLE = 69, /* a server does not answer, or says: later */
    PEAL_EXIT_BUG = 70,
    PEAL_EXIT_LOCKED = 75, /* another process uses the data folder */
    PEAL_EXIT_CONFIG = 78  /* a setting or a file that it names is wrong */
};

/* Prints `peal: <code>: <message>` on stderr, control characters as `?`, and returns exit_code. */
__attribute__((format(printf, 3, 4))) int peal_fail(int exit_code, const char *code,
                                                    const char *format, ...);

/* For a call of the client that brought no answer. */
int peal_fail_call(enum peal_err err, const char *why);
/* For an answer that is a refusal: its code and message, or its status when it has none. */
int peal_fail_answer(const struct peal_client_answer *answer);

/* Prints text on stdout and flushes. Returns the exit code: PEAL_EXIT_UNAVAILABLE, with an error
 * printed, when stdout cannot be written. */
int peal_print(struct peal_span text);
/* The same for one JSON text as one line. Line breaks between its tokens become blanks; there
 * are none inside of its strings. */
int peal_print_line(struct peal_span json);

#endif
