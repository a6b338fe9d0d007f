/* tests/unit/unit.h: what cmocka.h wants included before it, in the order it wants. */
#ifndef PEAL_TESTS_UNIT_H
#define PEAL_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
