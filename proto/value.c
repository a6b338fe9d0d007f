#include "proto/value.h"

#include "proto/cursor.h"

bool peal_wire_take(struct peal_span *rest, struct peal_wire_value *out)
{
    struct cursor c = cursor_of(*rest);
    if (!take(&c, out)) return false;
    *rest = peal_span_make(c.at, left(&c));
    return true;
}

bool peal_wire_skip(struct peal_span *rest, struct peal_span *value)
{
    struct cursor c = cursor_of(*rest);
    if (!skip(&c, 0)) return false;
    *value = peal_span_make(rest->at, rest->size - left(&c));
    *rest = peal_span_make(c.at, left(&c));
    return true;
}

enum peal_err peal_wire_check(struct peal_span bytes)
{
    struct cursor c = cursor_of(bytes);
    return skip(&c, 0) && left(&c) == 0 ? PEAL_OK : PEAL_EBAD_MESSAGE;
}
