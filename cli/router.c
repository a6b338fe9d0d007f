#include "cli/serve.h"
#include "cli/verbs.h"

static const char usage[] =
    "usage: peal router -c FILE [options]\n"
    "\n"
    "Runs a router: it numbers the messages of its groups, stores those of inboxes in `data`,\n"
    "and sends them to the nodes. Its doors are bound as `doors` says; /livez, /readyz and\n"
    "/metrics are on api.listen.\n"
    "\n"
    "  -c, --config FILE   configuration file\n"
    "  --set KEY=VALUE     one setting, after the file and the environment; may be repeated\n";

int peal_verb_router(int argc, char **argv)
{
    static const struct peal_serve router = {.usage = usage, .router = true};
    return peal_serve_run(&router, argc, argv);
}
