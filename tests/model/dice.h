/* tests/model/dice.h: random numbers that a seed repeats.
 *
 * Whatever is random in a run comes from here: what the world rolls, and, once the dice are
 * installed, what the program asks libsodium for (hash keys, epochs, names of sessions). The two
 * are apart, so that the program's wish for a number does not change what the world does. */
#ifndef PEAL_TESTS_DICE_H
#define PEAL_TESTS_DICE_H

#include <stdbool.h>
#include <stdint.h>

struct dice {
    uint64_t state; /* not 0 */
};

/* Any seed will do, also 0. */
void dice_init(struct dice *dice, uint64_t seed);
uint64_t dice_roll(struct dice *dice);
/* 0..sides-1 */
uint64_t dice_below(struct dice *dice, uint64_t sides);
bool dice_chance(struct dice *dice, unsigned percent);

/* From now on libsodium's random numbers follow from seed, in the whole process. */
void dice_install(uint64_t seed);

#endif
