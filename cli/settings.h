/* cli/settings.h: loading a configuration for a verb, with its problems on stderr. */
#ifndef PEAL_CLI_SETTINGS_H
#define PEAL_CLI_SETTINGS_H

#include "base/config.h"

/* Loads, or prints each problem as an error and returns PEAL_EXIT_CONFIG; *out is then NULL. */
int peal_settings_load(const struct peal_config_sources *from, struct peal_config **out);

#endif
