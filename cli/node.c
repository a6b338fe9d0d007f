#include "cli/serve.h"
#include "cli/verbs.h"

static const char usage[] =
    "usage: peal node -c FILE [options]\n"
    "\n"
    "Runs a node: browsers connect to it, and it connects to the routers in cluster.routers.\n"
    "It keeps nothing on disk.\n"
    "\n"
    "  -c, --config FILE   configuration file\n"
    "  --set KEY=VALUE     one setting, after the file and the environment; may be repeated\n";

int peal_verb_node(int argc, char **argv)
{
    static const struct peal_serve node = {.usage = usage, .node = true};
    return peal_serve_run(&node, argc, argv);
}
