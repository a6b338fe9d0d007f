/* node/commands.h: what a client can ask for, by whatever dialect.
 *
 * A dialect fills in the fields that its frame has; whether they fit the command is its business,
 * whether this client may have what it asks for is decided here. Every command is answered: at
 * once, or by node/joins.c or node/calls.c when a router has answered. Before a hello all others
 * are errors.
 *
 * Errors: they go to the client, as the answer to the command. The third in a row that made no
 *         sense closes the connection (4000).
 * Thread: the worker. Memory: a command and its spans are borrowed for the call.
 * Source: docs/PROTOCOL.md. */
#ifndef PEAL_NODE_COMMANDS_H
#define PEAL_NODE_COMMANDS_H

#include "node/conn.h"

struct peal_command {
    struct peal_span id; /* as JSON */
    struct peal_span token;
    struct peal_span device;
    struct peal_span group;
    struct peal_span user;
    bool has_since;
    uint64_t since_epoch;
    uint64_t since_offset;
    uint64_t last;
    uint64_t upto;
    uint64_t before;
    uint64_t limit;
    bool all;
    bool unread_only;
    bool presence; /* join: tell me who is there */
    uint64_t *offsets;
    size_t offset_count;
    struct peal_join *groups; /* hello: groups and resume.groups */
    size_t group_count;
    bool has_inbox; /* hello: resume.inbox */
    uint64_t inbox_epoch;
    uint64_t inbox_offset;
    struct peal_envelope env; /* publish: all but group */
};

void peal_command_hello(struct peal_conn *conn, const struct peal_command *cmd);
void peal_command_join(struct peal_conn *conn, const struct peal_command *cmd);
void peal_command_leave(struct peal_conn *conn, const struct peal_command *cmd);
void peal_command_publish(struct peal_conn *conn, const struct peal_command *cmd);
void peal_command_ack(struct peal_conn *conn, const struct peal_command *cmd);
void peal_command_read(struct peal_conn *conn, const struct peal_command *cmd);
void peal_command_inbox(struct peal_conn *conn, const struct peal_command *cmd);
void peal_command_presence(struct peal_conn *conn, const struct peal_command *cmd);
void peal_command_ping(struct peal_conn *conn, const struct peal_command *cmd);
/* A message that made no sense: an error to the client, as said above. */
void peal_command_bad(struct peal_conn *conn, struct peal_span id, enum peal_err err,
                      const char *message);

#endif
