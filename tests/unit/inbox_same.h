/* tests/unit/inbox_same.h: are two heads the same, in numbers and in bits? */
#ifndef PEAL_TESTS_INBOX_SAME_H
#define PEAL_TESTS_INBOX_SAME_H

#include "storage/inbox.h"
#include "tests/unit/unit.h"

/* Equal states are equal: numbers, and words without zeros at the end. */
static inline void assert_same(const struct peal_inbox *a, const struct peal_inbox *b)
{
    size_t count;
    size_t other;
    assert_memory_equal(&a->n, &b->n, sizeof a->n);
    const uint64_t *words = peal_inbox_delivered_words(a, &count);
    const uint64_t *others = peal_inbox_delivered_words(b, &other);
    assert_int_equal(count, other);
    if (count == 0) return;
    assert_int_not_equal(words[count - 1], 0);
    assert_memory_equal(words, others, count * sizeof *words);
    words = peal_inbox_read_words(a, &count);
    others = peal_inbox_read_words(b, &other);
    assert_int_equal(count, other);
    assert_memory_equal(words, others, count * sizeof *words);
}

#endif
