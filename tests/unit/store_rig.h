/* tests/unit/store_rig.h: the rig of tests/contract with the store of storage/, on a disk that
 * fails on demand. */
#ifndef PEAL_TESTS_STORE_RIG_H
#define PEAL_TESTS_STORE_RIG_H

#include "base/metrics.h"
#include "tests/contract/rig.h"
#ifndef PEAL_TESTS_RECORDER_H /* a disk of its own */
#include "tests/unit/disk.h"
#endif

#endif
