#include "cli/serve.h"
#include "cli/verbs.h"

static const char usage[] =
    "usage: peal relay -c FILE [options]\n"
    "\n"
    "Runs a relay: it connects to each of `cluster.routers`, binds a door for each as\n"
    "`doors.relay` says, and hands on what they send to nodes. Nodes name it in `cluster.via`.\n"
    "/livez, /readyz and /metrics are on api.listen.\n"
    "\n"
    "  -c, --config FILE   configuration file\n"
    "  --set KEY=VALUE     one setting, after the file and the environment; may be repeated\n";

int peal_verb_relay(int argc, char **argv)
{
    static const struct peal_serve relay = {.usage = usage, .relay = true};
    return peal_serve_run(&relay, argc, argv);
}
