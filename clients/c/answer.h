/* clients/c/answer.h: how calls of the client fail in words. Internal to clients/c. */
#ifndef PEAL_CLIENTS_C_ANSWER_H
#define PEAL_CLIENTS_C_ANSWER_H

#include "clients/c/peal.h"

/* Empties the answer and writes why; returns err, for `return peal_answer_fail(...)`. */
__attribute__((format(printf, 3, 4))) enum peal_err
peal_answer_fail(struct peal_client_answer *answer, enum peal_err err, const char *format, ...);

#endif
