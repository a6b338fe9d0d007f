#include "node/taken.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum peal_err peal_socket_taken(int fd, uint64_t *out)
{
    struct tcp_info info;
    socklen_t size = sizeof info;
    const size_t needed =
        offsetof(struct tcp_info, tcpi_bytes_received) + sizeof info.tcpi_bytes_received;
    int unread = 0;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 || size < needed) return PEAL_EIO;
    if (ioctl(fd, SIOCINQ, &unread) != 0 || unread < 0) return PEAL_EIO;
    *out = (uint64_t)info.tcpi_bytes_received - (uint64_t)unread;
    return PEAL_OK;
}
