#include "tests/model/dice.h"

#include <sodium.h>

static uint64_t program_state;

void dice_init(struct dice *dice, uint64_t seed)
{
    /* Neighbouring seeds shall not give runs that look alike (the finalizer of MurmurHash3). */
    seed += UINT64_C(0x9e3779b97f4a7c15);
    seed = (seed ^ seed >> 33) * UINT64_C(0xff51afd7ed558ccd);
    seed = (seed ^ seed >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    seed ^= seed >> 33;
    dice->state = seed != 0 ? seed : 1;
}

uint64_t dice_roll(struct dice *dice)
{
    dice->state ^= dice->state << 13;
    dice->state ^= dice->state >> 7;
    dice->state ^= dice->state << 17;
    return dice->state;
}

uint64_t dice_below(struct dice *dice, uint64_t sides)
{
    return dice_roll(dice) % sides;
}

bool dice_chance(struct dice *dice, unsigned percent)
{
    return dice_roll(dice) % 100 < percent;
}

static uint32_t program_next(void)
{
    program_state = program_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(program_state >> 32);
}

static void program_fill(void *const out, const size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((unsigned char *)out)[i] = (unsigned char)program_next();
}

static const char *program_name(void)
{
    return "dice";
}

void dice_install(uint64_t seed)
{
    static randombytes_implementation seeded = {
        .implementation_name = program_name, .random = program_next, .buf = program_fill};
    program_state = seed;
    randombytes_set_implementation(&seeded);
}
