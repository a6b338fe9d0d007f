/* tests/model/presence.h: who is in a group: in quiet times the router knows it exactly, and so
 * does every client who asked to be told. */
#ifndef PEAL_TESTS_PRESENCE_H
#define PEAL_TESTS_PRESENCE_H

#include "tests/model/world.h"

/* Some clients ask to be told, besides those who did before. */
void presence_ask(struct world *world);
/* Judges all groups; then half of the clients go, and it judges again. */
void judge_presence(struct world *world);

#endif
