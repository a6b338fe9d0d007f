#include <stdio.h>

#include "base/curve.h"
#include "cli/args.h"
#include "cli/exit.h"
#include "cli/verbs.h"

static const char usage[] =
    "usage: peal keygen FILE\n"
    "\n"
    "Makes a CURVE key pair for one process, writes both keys to FILE (mode 0600), and prints the\n"
    "public one. A file that exists is not replaced.\n"
    "\n"
    "FILE goes into bus.key_file of the process; it has to belong to the user that runs it. The\n"
    "public key goes, in 'single quotes', into cluster.routers of whoever connects to a router,\n"
    "and into the file bus.peers_file of the routers that a node or publisher connects to, as a\n"
    "line `KEY node NAME` or `KEY publisher NAME`.\n";

static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};

int peal_verb_keygen(int argc, char **argv)
{
    struct peal_curve_pair pair = {0};
    char why[400] = "the system has no random bytes";
    char line[PEAL_CURVE_TEXT + 2];
    peal_args_start();
    int option = peal_args_next(argc, argv, options);
    if (option == 'h') return peal_print(peal_span_of(usage));
    if (option != -1) return PEAL_EXIT_USAGE;
    if (argc - optind != 1) return peal_fail(PEAL_EXIT_USAGE, "usage", "one FILE is needed");

    enum peal_err err = peal_curve_make(&pair);
    if (err == PEAL_OK) err = peal_curve_write(argv[optind], &pair, why, sizeof why);
    snprintf(line, sizeof line, "%s\n", pair.public_key);
    peal_curve_wipe(&pair);
    if (err == PEAL_OK) return peal_print(peal_span_of(line));
    if (err == PEAL_EINUSE) return peal_fail(PEAL_EXIT_CONFIG, "exists", "%s", why);
    return peal_fail(PEAL_EXIT_UNAVAILABLE, "io_error", "%s", why);
}
