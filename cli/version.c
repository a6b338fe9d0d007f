#include "cli/args.h"
#include "cli/exit.h"
#include "cli/verbs.h"

static const char usage[] = "usage: peal version\n";

static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};

int peal_verb_version(int argc, char **argv)
{
    peal_args_start();
    int option = peal_args_next(argc, argv, options);
    if (option == 'h') return peal_print(peal_span_of(usage));
    if (option != -1) return PEAL_EXIT_USAGE;
    if (argc > optind) return peal_fail(PEAL_EXIT_USAGE, "usage", "version takes no arguments");
    return peal_print(peal_span_of("peal " PEAL_VERSION "\n"));
}
