/* bench/answer.h: answers of the acknowledged door to calls of one message.
 *
 * Source: docs/PROTOCOL.md, "Acknowledged door". */
#ifndef PEAL_BENCH_ANSWER_H
#define PEAL_BENCH_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"

struct peal_answer {
    uint64_t req;
    bool taken;  /* it has a receipt and no error */
    bool stored; /* and the receipt says that the message is on the disk */
};

/* False when it is no answer to a call. */
bool peal_answer_read(struct peal_span bytes, struct peal_answer *out);

#endif
