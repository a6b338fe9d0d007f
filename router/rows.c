#include "router/rows.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum { CAPACITY_MIN = 4 };

void peal_rows_fini(struct peal_rows *rows)
{
    if (rows->capacity > 0) free(rows->many);
    *rows = (struct peal_rows){0};
}

/* Where the row of node is, or would be. */
static uint32_t place_of(struct peal_rows *rows, uint32_t node)
{
    uint32_t low = 0;
    uint32_t high = rows->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (peal_rows_at(rows, middle)->node < node)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct peal_row *peal_rows_find(struct peal_rows *rows, uint32_t node)
{
    uint32_t i = place_of(rows, node);
    if (i == rows->count || peal_rows_at(rows, i)->node != node) return NULL;
    return peal_rows_at(rows, i);
}

static enum peal_err grow(struct peal_rows *rows)
{
    uint32_t capacity = rows->capacity == 0 ? CAPACITY_MIN : rows->capacity * 2;
    struct peal_row *old = rows->capacity == 0 ? NULL : rows->many;
    struct peal_row *many = realloc(old, capacity * sizeof *many);
    if (many == NULL) return PEAL_ENOMEM;
    if (rows->capacity == 0) many[0] = rows->one;
    rows->many = many;
    rows->capacity = capacity;
    return PEAL_OK;
}

enum peal_err peal_rows_add(struct peal_rows *rows, struct peal_row row)
{
    uint32_t i = place_of(rows, row.node);
    if (rows->count == 0) {
        PEAL_ASSERT(rows->capacity == 0);
        rows->one = row;
        rows->count = 1;
        return PEAL_OK;
    }
    PEAL_ASSERT(i == rows->count || peal_rows_at(rows, i)->node != row.node);
    if (rows->count >= rows->capacity && grow(rows) != PEAL_OK) return PEAL_ENOMEM;
    memmove(&rows->many[i + 1], &rows->many[i], (rows->count - i) * sizeof row);
    rows->many[i] = row;
    rows->count++;
    return PEAL_OK;
}

void peal_rows_remove(struct peal_rows *rows, uint32_t node)
{
    uint32_t i = place_of(rows, node);
    PEAL_ASSERT(i < rows->count);
    PEAL_ASSERT(peal_rows_at(rows, i)->node == node);
    rows->count--;
    if (rows->capacity == 0) return;
    memmove(&rows->many[i], &rows->many[i + 1], (rows->count - i) * sizeof rows->many[0]);
    if (rows->count > 1) return;
    /* Back to where it costs nothing. */
    struct peal_row *many = rows->many;
    if (rows->count == 1) rows->one = many[0];
    rows->capacity = 0;
    free(many);
}
