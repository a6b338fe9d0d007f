#include <unistd.h>

#include "cli/args.h"
#include "cli/exit.h"
#include "cli/settings.h"
#include "cli/verbs.h"

static const char usage[] =
    "usage: peal print-config [options]\n"
    "\n"
    "Prints the settings that are in force as YAML, secrets as ***.\n"
    "\n"
    "  -c, --config FILE   configuration file\n"
    "  --set KEY=VALUE     one setting, after the file and the environment; may be repeated\n"
    "  --defaults          only the defaults: no environment\n"
    "  --dev               as `peal dev` would have them\n";

static const struct option options[] = {
    {"config", required_argument, NULL, 'c'}, {"set", required_argument, NULL, 's'},
    {"defaults", no_argument, NULL, 'n'},     {"dev", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},         {0},
};

struct print {
    struct peal_config_sources from;
    struct peal_args_list sets;
    bool defaults;
    bool help;
};

static int options_read(int argc, char **argv, struct print *print)
{
    int option;
    peal_args_start();
    while ((option = peal_args_next(argc, argv, options)) != -1) {
        switch (option) {
        case 'c':
            print->from.path = optarg;
            break;
        case 's':
            if (peal_args_list_add(&print->sets, optarg) != PEAL_OK)
                return peal_fail_call(PEAL_ENOMEM, "There is not enough memory.");
            break;
        case 'n':
            print->defaults = true;
            break;
        case 'v':
            print->from.dev = true;
            break;
        case 'h':
            print->help = true;
            return PEAL_EXIT_OK;
        default:
            return PEAL_EXIT_USAGE;
        }
    }
    if (print->defaults && (print->from.path != NULL || print->sets.count > 0))
        return peal_fail(PEAL_EXIT_USAGE, "usage", "--defaults goes without -c and --set");
    return peal_args_end(argc, argv);
}

static int settings_print(struct print *print)
{
    struct peal_config *config;
    struct peal_buf text = {0};
    print->from.environment = print->defaults ? NULL : environ;
    print->from.sets = (const char *const *)print->sets.at;
    print->from.set_count = print->sets.count;
    int rc = peal_settings_load(&print->from, &config);
    if (rc != PEAL_EXIT_OK) return rc;
    peal_config_print(config, &text);
    rc = text.failed ? peal_fail_call(PEAL_ENOMEM, "There is not enough memory.")
                     : peal_print(peal_buf_span(&text));
    peal_buf_fini(&text);
    peal_config_free(config);
    return rc;
}

int peal_verb_print_config(int argc, char **argv)
{
    struct print print = {0};
    int rc = options_read(argc, argv, &print);
    if (print.help)
        rc = peal_print(peal_span_of(usage));
    else if (rc == PEAL_EXIT_OK)
        rc = settings_print(&print);
    peal_args_list_fini(&print.sets);
    return rc;
}
