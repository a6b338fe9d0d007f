/* base/assert.h: PEAL_ASSERT, which stays on in release builds.
 *
 * It means "this program is wrong". Input, peers, disk and memory shortage are errors and
 * never assertions. A failure prints the condition and place on stderr and aborts. */
#ifndef PEAL_BASE_ASSERT_H
#define PEAL_BASE_ASSERT_H

_Noreturn void peal_assert_failed(const char *condition, const char *file, int line);

#define PEAL_ASSERT(condition)                                                                     \
    do {                                                                                           \
        if (!(condition)) peal_assert_failed(#condition, __FILE__, __LINE__);                      \
    } while (0)

#endif
