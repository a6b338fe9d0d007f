#include "bench/sink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum peal_err peal_sink_fail(struct peal_sink *sink, enum peal_err err, const char *what,
                             const char *why)
{
    snprintf(sink->why, sizeof(sink->why), "%s: %s", what, why);
    return err;
}

uint32_t peal_sink_user(uint32_t user, char out[PEAL_KEEP_NAME_MAX])
{
    return (uint32_t)snprintf(out, PEAL_KEEP_NAME_MAX, "user:u%u", user);
}

int peal_sink_connect(struct peal_sink *sink)
{
    char host[64] = "";
    unsigned port = 0;
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (sscanf(sink->plan->endpoint, "tcp://%63[^:]:%u", host, &port) != 2 || port > UINT16_MAX ||
        inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        peal_sink_fail(sink, PEAL_EINVAL, "endpoint", sink->plan->endpoint);
        return -1;
    }
    address.sin_port = htons((uint16_t)port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        return fd;
    }
    peal_sink_fail(sink, PEAL_EIO, "connect", strerror(errno));
    if (fd >= 0) close(fd);
    return -1;
}
