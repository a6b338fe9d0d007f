#include "cli/serve.h"
#include "cli/verbs.h"

static const char usage[] =
    "usage: peal dev [options]\n"
    "\n"
    "Runs everything in one process: browsers on 127.0.0.1:8080 with a demo page at /, backends\n"
    "on 127.0.0.1:8081, ZeroMQ doors on 7800 and 7802, data in ./peal-data. Missing secrets are\n"
    "made once and kept there.\n"
    "\n"
    "  -c, --config FILE   configuration file\n"
    "  --set KEY=VALUE     one setting, after the file and the environment; may be repeated\n";

int peal_verb_dev(int argc, char **argv)
{
    static const struct peal_serve dev = {
        .usage = usage, .dev = true, .router = true, .node = true};
    return peal_serve_run(&dev, argc, argv);
}
