#include "clients/c/answer.h"

#include <stdarg.h>
#include <stdio.h>

enum peal_err peal_answer_fail(struct peal_client_answer *answer, enum peal_err err,
                               const char *format, ...)
{
    va_list args;
    peal_client_answer_fini(answer);
    va_start(args, format);
    vsnprintf(answer->why, sizeof answer->why, format, args);
    va_end(args);
    return err;
}

void peal_client_answer_fini(struct peal_client_answer *answer)
{
    peal_buf_fini(&answer->body);
    *answer = (struct peal_client_answer){0};
}
