/* storage/settle_note.h: how the settle thread writes its notes, and hears that one was freed.
 *
 * Thread: the settle thread makes notes; who has one frees it, in any thread, also after the settle
 * thread has ended. Memory: a bell has counted references: the thread's, and one of each note that
 * rings it. */
#ifndef PEAL_STORAGE_SETTLE_NOTE_H
#define PEAL_STORAGE_SETTLE_NOTE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "storage/settle.h"

struct peal_settle_bell {
    _Atomic uint32_t refs;
    _Atomic bool due_out; /* a DUE note is with the store thread */
    int fd;               /* eventfd: readable when the settle thread should look */
};

/* Errors: PEAL_ENOMEM (also: no descriptor left). */
enum peal_err peal_settle_bell_new(struct peal_settle_bell **out);
void peal_settle_bell_unref(struct peal_settle_bell *bell); /* NULL is fine */
void peal_settle_bell_ring(struct peal_settle_bell *bell);
/* Clears the signal; called before looking. */
void peal_settle_bell_hear(struct peal_settle_bell *bell);

/* A note in the making. */
struct peal_settle_draft {
    struct peal_settle_note *note; /* NULL: none */
    size_t group_room;
    size_t names_size;
    size_t names_room;
};

/* Errors: PEAL_ENOMEM; *draft then holds none. */
enum peal_err peal_settle_draft_begin(struct peal_settle_draft *draft, enum peal_settle_kind kind);
/* `group` without its name. Errors: PEAL_ENOMEM; the draft is as it was. */
enum peal_err peal_settle_draft_add(struct peal_settle_draft *draft, struct peal_span name,
                                    const struct peal_settle_group *group);
/* Takes the note out. */
struct peal_settle_note *peal_settle_draft_end(struct peal_settle_draft *draft);
void peal_settle_draft_drop(struct peal_settle_draft *draft); /* zeroed is fine */

#endif
