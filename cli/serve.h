/* cli/serve.h: what the verbs that run a server have in common: `peal dev`, `node`, `router`,
 * `relay`.
 *
 * Options, configuration, secrets, start and stop in the right order, signals, and the lines
 * on stdout that say where everything listens. */
#ifndef PEAL_CLI_SERVE_H
#define PEAL_CLI_SERVE_H

#include <stdbool.h>

struct peal_serve {
    const char *usage;
    bool dev;    /* defaults and secrets of `peal dev` */
    bool router; /* this process is a router */
    bool relay;  /* this process is a relay, and nothing else */
    bool node;   /* this process is a node; with router: over inproc */
};

/* Runs until SIGTERM, on which a node lets its clients go by and by (`drain` in the configuration),
 * or SIGINT, on which it ends at once, as it does on a second signal. Returns the exit code of the
 * process. */
int peal_serve_run(const struct peal_serve *what, int argc, char **argv);

#endif
