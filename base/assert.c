#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void peal_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "peal: bug: %s:%d: %s\n", file, line, condition);
    abort();
}
