/* proto/group.h: names of groups and users, slots, and the policy that a name stands for.
 *
 * Names are UTF-8, 1..200 bytes, without C0 and C1 control characters, compared byte by byte.
 * `user:<id>` is the inbox of user <id>; `sys:` belongs to Peal.
 *
 * Thread: any; no state. */
#ifndef PEAL_PROTO_GROUP_H
#define PEAL_PROTO_GROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/config.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/span.h"

/* Errors: PEAL_EBAD_GROUP. Users obey the same rule (but `user:` + id must fit as well). */
enum peal_err peal_name_check(struct peal_span name);
/* xxh3_64(name), and its top 10 bits: 0..PEAL_SLOTS-1. */
uint64_t peal_group_hash(struct peal_span group);
uint16_t peal_hash_slot(uint64_t hash);
uint16_t peal_group_slot(struct peal_span group);
/* Which of router_count routers a slot belongs to when slots are split evenly. */
size_t peal_slot_router(uint16_t slot, size_t router_count);

bool peal_group_is_inbox(struct peal_span group);
/* The <id> of `user:<id>`; an absent span for other groups. */
struct peal_span peal_group_user(struct peal_span group);
/* Appends `user:` and the id. Errors: PEAL_EBAD_GROUP when the result is no name. */
enum peal_err peal_group_of_user(struct peal_span user, struct peal_buf *out);

/* Does name match the pattern? `{x}` takes one or more characters up to the next literal (never
 * `:`-greedy: it stops at the first match), a final `*` takes any rest. */
bool peal_pattern_matches(const char *pattern, struct peal_span name);
/* The first policy whose pattern matches; the configuration guarantees that one does. */
const struct peal_config_group *peal_group_policy(const struct peal_config *config,
                                                  struct peal_span group);
/* Does the group keep messages, so that who falls behind can catch up? */
bool peal_policy_keeps(const struct peal_config_group *policy);

/* Epochs on client interfaces are opaque text; inside they are 64 bits. */
enum { PEAL_EPOCH_TEXT_MAX = 16 };
void peal_epoch_add(struct peal_buf *out, uint64_t epoch);
/* Errors: PEAL_EBAD_FIELD. */
enum peal_err peal_epoch_parse(struct peal_span text, uint64_t *out);

#endif
