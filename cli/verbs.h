/* cli/verbs.h: what `peal VERB` can do, one function and one file per verb.
 *
 * A verb gets its own name as argv[0], prints results on stdout and errors on stderr as
 * `peal: <code>: <message>`, and returns the exit code of the process (cli/exit.h). Every verb
 * knows --help. To add one: a file, a line here, a line in the table in verbs.c. */
#ifndef PEAL_CLI_VERBS_H
#define PEAL_CLI_VERBS_H

#include <stddef.h>

struct peal_verb {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help; /* one line, for `peal --help` */
};

/* In the order in which `peal --help` shows them; ends with a NULL name. */
extern const struct peal_verb peal_verbs[];

/* NULL when there is no such verb. */
const struct peal_verb *peal_verb_find(const char *name);

int peal_verb_dev(int argc, char **argv);
int peal_verb_node(int argc, char **argv);
int peal_verb_router(int argc, char **argv);
int peal_verb_relay(int argc, char **argv);
int peal_verb_pub(int argc, char **argv);
int peal_verb_sub(int argc, char **argv);
int peal_verb_inbox(int argc, char **argv);
int peal_verb_slots(int argc, char **argv);
int peal_verb_store(int argc, char **argv);
int peal_verb_token(int argc, char **argv);
int peal_verb_keygen(int argc, char **argv);
int peal_verb_check_config(int argc, char **argv);
int peal_verb_print_config(int argc, char **argv);
int peal_verb_version(int argc, char **argv);

#endif
