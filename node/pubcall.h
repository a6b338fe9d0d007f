/* node/pubcall.h: one publish call of a backend on its way through the routers.
 *
 * The items of a request are sorted by router and sent as few PUBLISH frames, each below half of
 * what the bus carries. The receipts come back in the order of the items. An item that was
 * refused when it was read keeps its error; one whose router does not answer gets an error of
 * its own, so a call always ends with one result per item.
 *
 * Shape:  a state machine above node/hub.h, without sockets.
 * Thread: the worker. Memory: results and all that they point to belong to the call; the request
 * may go as soon as peal_pubcall_start has returned. */
#ifndef PEAL_NODE_PUBCALL_H
#define PEAL_NODE_PUBCALL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/span.h"
#include "node/hub.h"
#include "proto/publish.h"

struct peal_pubcall_result {
    enum peal_err err;
    char why[120];  /* sentence for the publisher; "" when OK */
    char field[32]; /* the field at fault, or "" */
    char id[PEAL_MESSAGE_ID_MAX];
    size_t id_size;
    struct peal_span group;
    uint64_t epoch;
    uint64_t offset;
    uint64_t flags;    /* PEAL_FLAG_STORED, PEAL_FLAG_DUPLICATE */
    uint64_t after_ms; /* with an error: try again after that; 0 = not known */
};

typedef void (*peal_pubcall_done)(void *ctx, const struct peal_pubcall_result *results,
                                  size_t count);

struct peal_pubcall {
    struct peal_hub *hub;
    struct peal_link parts; /* frames that are not answered, struct part */
    struct peal_pubcall_result *results;
    size_t count;
    char *names; /* of the groups, one behind the other */
    peal_pubcall_done done;
    void *ctx;
};

/* Makes call an empty one, which may be ended at once. */
void peal_pubcall_init(struct peal_pubcall *call, struct peal_hub *hub);
/* Cancels what is under way and frees; done is not called any more. May be called by done. */
void peal_pubcall_fini(struct peal_pubcall *call);
/* Publishes; done is called exactly once, perhaps before this returns. Its results live until
 * fini. Errors: PEAL_ENOMEM, and nothing was sent and done is not called. */
enum peal_err peal_pubcall_start(struct peal_pubcall *call,
                                 const struct peal_publish_request *request, peal_pubcall_done done,
                                 void *ctx);

#endif
