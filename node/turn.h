/* node/turn.h: what came for the groups of a worker in one turn of its loop, and its fan-out.
 *
 * Messages are collected as they come and given to the members at the end of the turn: the
 * messages of one group are rendered once per dialect into one run, and each member's queue
 * takes one reference to it. Ten messages in one turn cost one walk over the members and one
 * system call each, not ten.
 *
 * What is collected belongs to exactly those members that are live: whoever changes that, or
 * says something that must not overtake a message, flushes the group first.
 *
 * Shape:  at most PEAL_TURN_MESSAGES messages; then everything is flushed.
 * Thread: the worker. Memory: embedded in struct peal_hub; keeps the mails of the turn, which the
 *         envelopes point into. */
#ifndef PEAL_NODE_TURN_H
#define PEAL_NODE_TURN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "node/letter.h"
#include "node/mail.h"

struct peal_group;
struct peal_hub;

enum {
    PEAL_TURN_MESSAGES = 1024,
    PEAL_RUN_BYTES = 64 * 1024, /* of payload joined in one run; a single larger one still fits */
};

struct peal_turn_message {
    struct peal_envelope env;
    uint64_t unread;
    uint64_t rev;
    uint16_t next; /* of the same group: index + 1, 0 = none */
};

struct peal_turn {
    struct peal_turn_message messages[PEAL_TURN_MESSAGES];
    struct peal_group *groups[PEAL_TURN_MESSAGES]; /* by first message; NULL: flushed before */
    uint32_t ends[PEAL_TURN_MESSAGES];             /* of the frames in the run being made */
    struct peal_buf bytes;                         /* likewise */
    struct peal_mail *mails;
    uint16_t message_count;
    uint16_t group_count;
    bool delivering; /* a walk over members is under way */
};

/* A zeroed turn is empty. Takes letter, a message that follows on in group; what it points to must
 * be there until the end of the turn. */
void peal_turn_add(struct peal_hub *hub, struct peal_group *group,
                   const struct peal_letter *letter);
/* Keeps mail, which was read, until the end of the turn; then it is freed. */
void peal_turn_keep(struct peal_turn *turn, struct peal_mail *mail);
/* Gives the group's members what came for it. */
void peal_turn_flush_group(struct peal_hub *hub, struct peal_group *group);
/* The same for all groups: the end of the turn. */
void peal_turn_end(struct peal_hub *hub);
void peal_turn_fini(struct peal_turn *turn); /* of an empty turn */

#endif
