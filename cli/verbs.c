#include "cli/verbs.h"

#include <string.h>

const struct peal_verb peal_verbs[] = {
    {"dev", peal_verb_dev, "run everything in one process, with a demo page"},
    {"node", peal_verb_node, "run a node, which browsers connect to"},
    {"router", peal_verb_router, "run a router, which numbers and stores messages"},
    {"relay", peal_verb_relay, "run a relay, which hands on what routers send to nodes"},
    {"pub", peal_verb_pub, "publish one message to a group or a user"},
    {"sub", peal_verb_sub, "print what arrives for groups or a user"},
    {"inbox", peal_verb_inbox, "print the stored messages of a user"},
    {"slots", peal_verb_slots, "show, plan and move which router owns which groups"},
    {"store", peal_verb_store, "look into, check, copy and compact a router's store"},
    {"token", peal_verb_token, "make a token for a browser"},
    {"keygen", peal_verb_keygen, "make CURVE keys for the bus between processes"},
    {"check-config", peal_verb_check_config, "say what is wrong with a configuration file"},
    {"print-config", peal_verb_print_config, "print the settings that are in force"},
    {"version", peal_verb_version, "print the version"},
    {0},
};

const struct peal_verb *peal_verb_find(const char *name)
{
    for (const struct peal_verb *verb = peal_verbs; verb->name != NULL; verb++)
        if (strcmp(verb->name, name) == 0) return verb;
    return NULL;
}
