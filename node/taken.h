/* node/taken.h: how many bytes were read from a TCP socket so far, by whomever.
 *
 * In a file of its own because the kernel's struct tcp_info and the C library's older one do
 * not go together. */
#ifndef PEAL_NODE_TAKEN_H
#define PEAL_NODE_TAKEN_H

#include <stdint.h>

#include "base/err.h"

/* Exact also while more comes in. Errors: PEAL_EIO: it is no TCP socket, or more comes in all the
 * time. */
enum peal_err peal_socket_taken(int fd, uint64_t *out);

#endif
