#include <stdio.h>
#include <string.h>

#include "cli/exit.h"
#include "cli/memory.h"
#include "cli/verbs.h"

static void help_print(FILE *to)
{
    fputs("usage: peal VERB [options]\n\n", to);
    for (const struct peal_verb *verb = peal_verbs; verb->name != NULL; verb++)
        fprintf(to, "  %-13s %s\n", verb->name, verb->help);
    fputs("\n`peal VERB --help` says more about one of them.\n", to);
}

static bool is_help(const char *text)
{
    return strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0 || strcmp(text, "help") == 0;
}

static int verb_run(int argc, char **argv)
{
    const struct peal_verb *verb = peal_verb_find(argv[0]);
    if (verb == NULL)
        return peal_fail(PEAL_EXIT_USAGE, "usage", "there is no verb \"%s\"; see peal --help",
                         argv[0]);
    return verb->run(argc, argv);
}

int main(int argc, char **argv)
{
    char help[] = "--help";
    peal_memory_start();
    if (argc < 2) {
        help_print(stderr);
        return PEAL_EXIT_USAGE;
    }
    if (is_help(argv[1]) && argc == 2) {
        help_print(stdout);
        return PEAL_EXIT_OK;
    }
    if (is_help(argv[1])) return verb_run(2, (char *[]){argv[2], help, NULL});
    if (strcmp(argv[1], "--version") == 0) return verb_run(1, (char *[]){"version", NULL});
    return verb_run(argc - 1, argv + 1);
}
