#include "node/dialect/dialect.h"

const struct peal_dialect *peal_dialect_of(enum peal_dialect_kind kind)
{
    switch (kind) {
    case PEAL_DIALECT_NATIVE:
        return &peal_dialect_native;
    case PEAL_DIALECT_RAW:
        return &peal_dialect_raw;
    }
    return &peal_dialect_native;
}
