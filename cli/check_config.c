#include <stdio.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/exit.h"
#include "cli/settings.h"
#include "cli/verbs.h"

static const char usage[] =
    "usage: peal check-config FILE\n"
    "\n"
    "Says what is wrong with a configuration file, and warns of what is allowed but risky.\n"
    "Settings from the environment (PEAL_SECTION__KEY) take part, as they will later.\n";

static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};

static void risks_print(const struct peal_config *config)
{
    if (config->bus.insecure && config->bus.key_file == NULL)
        fprintf(stderr, "peal: warning: bus.insecure: whoever reaches a door of the bus can read "
                        "and publish everything; for trusted networks only\n");
    for (size_t i = 0; i < config->route_count; i++)
        if (config->routes[i].identity == PEAL_IDENTITY_URL)
            fprintf(stderr,
                    "peal: warning: route %s takes the user from the URL: anybody can be anybody; "
                    "for trusted networks only\n",
                    config->routes[i].path);
}

int peal_verb_check_config(int argc, char **argv)
{
    peal_args_start();
    int option = peal_args_next(argc, argv, options);
    if (option == 'h') return peal_print(peal_span_of(usage));
    if (option != -1) return PEAL_EXIT_USAGE;
    if (argc - optind != 1) return peal_fail(PEAL_EXIT_USAGE, "usage", "one FILE is needed");

    struct peal_config *config;
    const struct peal_config_sources from = {.path = argv[optind], .environment = environ};
    int rc = peal_settings_load(&from, &config);
    if (rc != PEAL_EXIT_OK) return rc;
    risks_print(config);
    peal_config_free(config);
    return peal_print(peal_span_of("ok\n"));
}
