/* clients/c/message.h: messages as the doors want them. Pure.
 *
 * JSON goes to the HTTP API and the PUSH door and keeps a JSON payload byte by byte. msgpack
 * goes to the acknowledged door; numbers are then judged by their value, so 1e2 becomes 100.0.
 *
 * Thread: any; no state. Both calls append to out, and leave something unusable behind when
 * they fail. */
#ifndef PEAL_CLIENTS_C_MESSAGE_H
#define PEAL_CLIENTS_C_MESSAGE_H

#include "clients/c/peal.h"

/* One object for one message, else a list. Errors: PEAL_EBAD_FIELD with a sentence in why (data
 * is not JSON, text is not UTF-8, neither or both of group and user), PEAL_ENOMEM. */
enum peal_err peal_message_json(const struct peal_client_message *messages, size_t count,
                                struct peal_buf *out, char *why, size_t why_size);

/* {op: "publish", req, messages: [...]}. Errors: as above. */
enum peal_err peal_message_request(const struct peal_client_message *messages, size_t count,
                                   uint64_t req, struct peal_buf *out, char *why, size_t why_size);

/* {"type":"hello","id":1,"device":...,"groups":[...]}. Errors: PEAL_EBAD_FIELD when a name is not
 * UTF-8, PEAL_ENOMEM. */
enum peal_err peal_message_hello(const struct peal_client_feed *feed, struct peal_buf *out);

#endif
