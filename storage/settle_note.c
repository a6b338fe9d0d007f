#include "storage/settle_note.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/limits.h"

enum peal_err peal_settle_bell_new(struct peal_settle_bell **out)
{
    *out = NULL;
    struct peal_settle_bell *bell = malloc(sizeof *bell);
    if (bell == NULL) return PEAL_ENOMEM;
    atomic_init(&bell->refs, 1);
    atomic_init(&bell->due_out, false);
    bell->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (bell->fd < 0) {
        free(bell);
        return PEAL_ENOMEM;
    }
    *out = bell;
    return PEAL_OK;
}

void peal_settle_bell_unref(struct peal_settle_bell *bell)
{
    if (bell == NULL || atomic_fetch_sub(&bell->refs, 1) > 1) return;
    close(bell->fd);
    free(bell);
}

void peal_settle_bell_ring(struct peal_settle_bell *bell)
{
    uint64_t one = 1;
    ssize_t n = write(bell->fd, &one, sizeof one);
    PEAL_ASSERT(n == (ssize_t)sizeof one); /* the counter takes 2^64 - 2 of them */
}

void peal_settle_bell_hear(struct peal_settle_bell *bell)
{
    uint64_t count;
    ssize_t n = read(bell->fd, &count, sizeof count);
    (void)n; /* nothing was rung: EAGAIN */
}

enum peal_err peal_settle_draft_begin(struct peal_settle_draft *draft, enum peal_settle_kind kind)
{
    *draft = (struct peal_settle_draft){0};
    draft->note = calloc(1, sizeof *draft->note);
    if (draft->note == NULL) return PEAL_ENOMEM;
    draft->note->kind = kind;
    return PEAL_OK;
}

/* Room for one more group with a name of so many bytes. */
static bool draft_grow(struct peal_settle_draft *draft, size_t name_size)
{
    struct peal_settle_note *note = draft->note;
    if (note->group_count == draft->group_room) {
        size_t room = draft->group_room == 0 ? 16 : draft->group_room * 2;
        struct peal_settle_group *groups = realloc(note->groups, room * sizeof *groups);
        if (groups == NULL) return false;
        note->groups = groups;
        draft->group_room = room;
    }
    if (name_size > draft->names_room - draft->names_size) {
        size_t room = draft->names_room * 2 + PEAL_NAME_MAX;
        char *names = realloc(note->names, room);
        if (names == NULL) return false;
        note->names = names;
        draft->names_room = room;
    }
    return true;
}

enum peal_err peal_settle_draft_add(struct peal_settle_draft *draft, struct peal_span name,
                                    const struct peal_settle_group *group)
{
    struct peal_settle_note *note = draft->note;
    PEAL_ASSERT(name.size >= 1);
    PEAL_ASSERT(name.size <= PEAL_NAME_MAX);
    PEAL_ASSERT(draft->names_size <= UINT32_MAX - name.size);
    if (!draft_grow(draft, name.size)) return PEAL_ENOMEM;
    memcpy(note->names + draft->names_size, name.at, name.size);
    struct peal_settle_group *at = &note->groups[note->group_count++];
    *at = *group;
    at->name_at = (uint32_t)draft->names_size;
    at->name_size = (uint32_t)name.size;
    draft->names_size += name.size;
    return PEAL_OK;
}

struct peal_settle_note *peal_settle_draft_end(struct peal_settle_draft *draft)
{
    struct peal_settle_note *note = draft->note;
    *draft = (struct peal_settle_draft){0};
    return note;
}

void peal_settle_draft_drop(struct peal_settle_draft *draft)
{
    peal_settle_note_free(peal_settle_draft_end(draft));
}

void peal_settle_note_free(struct peal_settle_note *note)
{
    if (note == NULL) return;
    if (note->bell != NULL) {
        atomic_store(&note->bell->due_out, false);
        peal_settle_bell_ring(note->bell);
        peal_settle_bell_unref(note->bell);
    }
    free(note->groups);
    free(note->names);
    free(note);
}
