/* One value of the configuration as text, in both directions. What add_value writes, set reads
 * back to the same value. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/config_check.h"
#include "base/config_table.h"
#include "base/log.h"

struct unit {
    const char *name;
    uint64_t factor;
};

/* From small to large; the first one is what the field holds. */
static const struct unit units_time[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}, {NULL, 0},
};
static const struct unit units_size[] = {
    {"B", 1},
    {"KiB", (uint64_t)1 << 10},
    {"MiB", (uint64_t)1 << 20},
    {"GiB", (uint64_t)1 << 30},
    {"TiB", (uint64_t)1 << 40},
    {NULL, 0},
};

static const struct unit *units_of(const struct peal_option *option)
{
    if (option->kind == PEAL_OPTION_DURATION) return units_time;
    if (option->kind == PEAL_OPTION_SIZE) return units_size;
    return NULL;
}

void peal_option_add_kind(const struct peal_option *option, struct peal_buf *out)
{
    static const char *const names[] = {
        [PEAL_OPTION_TEXT] = "a text",
        [PEAL_OPTION_SECRET] = "a text",
        [PEAL_OPTION_TEXTS] = "a list of texts",
        [PEAL_OPTION_SECRETS] = "a list of texts",
        [PEAL_OPTION_LIST] = "a list of mappings",
        [PEAL_OPTION_BOOL] = "true or false",
        [PEAL_OPTION_WORD] = "one of",
        [PEAL_OPTION_NUMBER] = "a whole number",
        [PEAL_OPTION_DURATION] = "a duration such as 500ms, 25s, 5m, 1h or 7d",
        [PEAL_OPTION_SIZE] = "a size such as 512B, 64KiB, 4MiB or 1GiB",
    };
    if (option->words == NULL) {
        peal_buf_add_text(out, names[option->kind]);
        return;
    }
    const char *joint = "one of ";
    for (const struct peal_option_word *word = option->words; word->name != NULL; word++) {
        if (word->value < 0) continue;
        peal_buf_add_text(out, joint);
        peal_buf_add_text(out, word->name);
        joint = ", ";
    }
}

void peal_option_add_number(const struct peal_option *option, uint64_t number, struct peal_buf *out)
{
    const struct unit *unit = units_of(option);
    if (unit == NULL) {
        peal_buf_add_u64(out, number);
        return;
    }
    while (number != 0 && unit[1].name != NULL && number % unit[1].factor == 0)
        unit++;
    peal_buf_add_u64(out, number / unit->factor);
    peal_buf_add_text(out, unit->name);
}

/* Names the value in a message, unless it is a secret. */
static void add_quoted(const struct peal_option *option, const char *text, struct peal_buf *why)
{
    char quoted[80];
    if (peal_option_is_secret(option)) {
        peal_buf_add_text(why, "the value");
        return;
    }
    peal_log_quote(peal_span_of(text), quoted, sizeof quoted);
    bool bare = quoted[0] != '"';
    peal_buf_add_format(why, bare ? "\"%s\"" : "%s", quoted);
}

static enum peal_err not_of_kind(const struct peal_option *option, const char *text,
                                 struct peal_buf *why)
{
    add_quoted(option, text, why);
    peal_buf_add_text(why, " is not ");
    peal_option_add_kind(option, why);
    return PEAL_ECONFIG;
}

static enum peal_err check_range(const struct peal_option *option, uint64_t number, bool overflow,
                                 const char *text, struct peal_buf *why)
{
    if (!overflow && number >= option->min && number <= option->max) return PEAL_OK;
    add_quoted(option, text, why);
    peal_buf_add_text(why, " is out of range: ");
    peal_option_add_number(option, option->min, why);
    peal_buf_add_text(why, " to ");
    peal_option_add_number(option, option->max, why);
    return PEAL_ECONFIG;
}

static enum peal_err set_number(const struct peal_option *option, const char *text, uint64_t *out,
                                struct peal_buf *why)
{
    uint64_t number = 0;
    bool overflow = false;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++) {
        overflow |= __builtin_mul_overflow(number, 10, &number);
        overflow |= __builtin_add_overflow(number, (uint64_t)(*p - '0'), &number);
    }
    /* 010 is 8 to some readers of YAML and 10 to others. */
    bool octal = text[0] == '0' && p > text + 1;
    if (p == text || octal) return not_of_kind(option, text, why);

    const struct unit *unit = units_of(option);
    if (unit == NULL && *p != '\0') return not_of_kind(option, text, why);
    bool plain = *p == '\0' && (option->kind == PEAL_OPTION_SIZE || unit == NULL);
    if (!plain) {
        while (unit->name != NULL && strcmp(unit->name, p) != 0)
            unit++;
        if (unit->name == NULL) return not_of_kind(option, text, why);
        overflow |= __builtin_mul_overflow(number, unit->factor, &number);
    }
    if (check_range(option, number, overflow, text, why) != PEAL_OK) return PEAL_ECONFIG;
    *out = number;
    return PEAL_OK;
}

static const struct peal_option_word *find_word(const struct peal_option *option, const char *text)
{
    for (const struct peal_option_word *word = option->words; word->name != NULL; word++)
        if (strcmp(word->name, text) == 0) return word;
    return NULL;
}

static enum peal_err check_word(const struct peal_option *option, const char *text,
                                struct peal_buf *why)
{
    const struct peal_option_word *word = find_word(option, text);
    if (word == NULL) return not_of_kind(option, text, why);
    if (word->value >= 0) return PEAL_OK;
    add_quoted(option, text, why);
    peal_buf_add_text(why, " is not supported yet: only ");
    struct peal_buf words = {0};
    peal_option_add_kind(option, &words);
    if (words.size > 7) peal_buf_add(why, words.at + 7, words.size - 7); /* without "one of " */
    peal_buf_fini(&words);
    return PEAL_ECONFIG;
}

/* The whole of a list of texts has its own bounds (min and max are elements there). */
static enum peal_err check_text(const struct peal_option *option, const char *text,
                                struct peal_buf *why)
{
    bool single = option->kind == PEAL_OPTION_TEXT || option->kind == PEAL_OPTION_SECRET;
    size_t size = strlen(text);
    uint64_t max = single && option->max != 0 ? option->max : PEAL_OPTION_TEXT_MAX;
    if (peal_option_is_secret(option) && strcmp(text, "***") == 0) {
        peal_buf_add_text(why, "*** is what print-config writes in place of a secret; the secret "
                               "itself belongs here");
        return PEAL_ECONFIG;
    }
    if (option->words != NULL) return check_word(option, text, why);

    const char *wrong = NULL;
    if (size == 0) wrong = "is empty";
    if (wrong == NULL && size > max) wrong = "is too long";
    if (wrong == NULL) wrong = peal_config_check_text(peal_span_of(text));
    if (wrong == NULL && option->check != NULL) wrong = option->check(text);
    if (wrong != NULL) {
        add_quoted(option, text, why);
        peal_buf_add_format(why, " %s", wrong);
        return PEAL_ECONFIG;
    }
    if (single && size < option->min) {
        add_quoted(option, text, why);
        peal_buf_add_format(why, " has %zu bytes and needs at least %" PRIu64, size, option->min);
        return PEAL_ECONFIG;
    }
    return PEAL_OK;
}

/* Puts a copy of text into *field, in place of what was there. */
static enum peal_err put_text(char **field, const char *text)
{
    char *copy = strdup(text);
    if (copy == NULL) return PEAL_ENOMEM;
    free(*field);
    *field = copy;
    return PEAL_OK;
}

static enum peal_err put_item(const struct peal_option *option, struct peal_strings *texts,
                              size_t item, const char *text, struct peal_buf *why)
{
    if (item < texts->count) return put_text(&texts->at[item], text);
    PEAL_ASSERT(item == texts->count);
    if (texts->count >= option->max) {
        peal_buf_add_format(why, "has more than %" PRIu64 " elements", option->max);
        return PEAL_ECONFIG;
    }
    char **grown = realloc(texts->at, (texts->count + 1) * sizeof *grown);
    if (grown == NULL) return PEAL_ENOMEM;
    texts->at = grown;
    texts->at[texts->count] = NULL;
    enum peal_err err = put_text(&texts->at[texts->count], text);
    if (err == PEAL_OK) texts->count++;
    return err;
}

enum peal_err peal_option_set(const struct peal_option_spot *spot, const struct peal_config *config,
                              const char *text, struct peal_buf *why)
{
    const struct peal_option *option = spot->option;
    void *field = peal_option_field(option, config, spot->index);
    enum peal_err err;
    switch (option->kind) {
    case PEAL_OPTION_TEXT:
    case PEAL_OPTION_SECRET:
        err = check_text(option, text, why);
        return err != PEAL_OK ? err : put_text(field, text);
    case PEAL_OPTION_TEXTS:
    case PEAL_OPTION_SECRETS:
        if (spot->item == PEAL_OPTION_NO_ITEM) return not_of_kind(option, text, why);
        err = check_text(option, text, why);
        return err != PEAL_OK ? err : put_item(option, field, spot->item, text, why);
    case PEAL_OPTION_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            return not_of_kind(option, text, why);
        *(bool *)field = text[0] == 't';
        return PEAL_OK;
    case PEAL_OPTION_WORD:
        err = check_word(option, text, why);
        if (err == PEAL_OK) *(int *)field = find_word(option, text)->value;
        return err;
    case PEAL_OPTION_NUMBER:
    case PEAL_OPTION_DURATION:
    case PEAL_OPTION_SIZE:
        return set_number(option, text, field, why);
    case PEAL_OPTION_LIST:
        break;
    }
    return not_of_kind(option, text, why);
}

static void add_text(const struct peal_option *option, const char *text, struct peal_buf *out)
{
    if (peal_option_is_secret(option)) text = "***";
    peal_buf_add_char(out, '"');
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') peal_buf_add_char(out, '\\');
        peal_buf_add_char(out, *text);
    }
    peal_buf_add_char(out, '"');
}

void peal_option_add_value(const struct peal_option_spot *spot, const struct peal_config *config,
                           struct peal_buf *out)
{
    const struct peal_option *option = spot->option;
    const void *field = peal_option_field(option, config, spot->index);
    const struct peal_option_word *word = option->words;
    switch (option->kind) {
    case PEAL_OPTION_TEXT:
    case PEAL_OPTION_SECRET:
        add_text(option, *(char *const *)field, out);
        break;
    case PEAL_OPTION_TEXTS:
    case PEAL_OPTION_SECRETS:
        add_text(option, ((const struct peal_strings *)field)->at[spot->item], out);
        break;
    case PEAL_OPTION_BOOL:
        peal_buf_add_text(out, *(const bool *)field ? "true" : "false");
        break;
    case PEAL_OPTION_WORD:
        while (word->value != *(const int *)field) {
            word++;
            PEAL_ASSERT(word->name != NULL);
        }
        peal_buf_add_text(out, word->name);
        break;
    case PEAL_OPTION_NUMBER:
    case PEAL_OPTION_DURATION:
    case PEAL_OPTION_SIZE:
        peal_option_add_number(option, *(const uint64_t *)field, out);
        break;
    case PEAL_OPTION_LIST:
        PEAL_ASSERT(option->kind != PEAL_OPTION_LIST); /* its elements have values, it has none */
    }
}
