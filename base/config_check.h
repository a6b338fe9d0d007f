/* base/config_check.h: what the texts of the configuration may look like.
 * Inside of config*.c only.
 *
 * Each check answers NULL when the text is fine, or what is wrong with it: a sentence without
 * the text itself, which may be a secret. Thread: any. */
#ifndef PEAL_BASE_CONFIG_CHECK_H
#define PEAL_BASE_CONFIG_CHECK_H

#include <stdbool.h>

#include "base/span.h"

/* Every text: UTF-8 without characters that could not be printed and read again. */
const char *peal_config_check_text(struct peal_span text);

const char *peal_config_check_endpoint(const char *text);  /* host:port */
const char *peal_config_check_door(const char *text);      /* an endpoint of ZeroMQ */
const char *peal_config_check_curve_key(const char *text); /* a public key in Z85 */
const char *peal_config_check_self(const char *text);      /* a number, or auto */
const char *peal_config_check_api_key(const char *text);
const char *peal_config_check_path(const char *text);     /* of a route */
const char *peal_config_check_template(const char *text); /* of a group to join */
const char *peal_config_check_pattern(const char *text);  /* of group names */
const char *peal_config_check_origin(const char *text);

/* A TCP door whose port the kernel chooses? The text has passed the check above. */
bool peal_config_any_port(const char *door);

/* The next {name} at or behind *at, moving *at behind it; an absent span when there is none.
 * The text has passed one of the checks above. */
struct peal_span peal_config_capture(const char **at);

#endif
