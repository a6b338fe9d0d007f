#include "base/bus_wait.h"

#include <stdlib.h>
#include <zmq.h>

#include "base/assert.h"

enum peal_err peal_bus_sources_init(struct peal_bus_sources *sources, size_t count)
{
    *sources = (struct peal_bus_sources){.count = count};
    sources->at = calloc(count, sizeof *sources->at);
    sources->polled = calloc(count, sizeof *sources->polled);
    if (sources->at == NULL || sources->polled == NULL) {
        peal_bus_sources_fini(sources);
        return PEAL_ENOMEM;
    }
    for (size_t i = 0; i < count; i++)
        sources->at[i] = (struct peal_bus_source){.fd = -1, .skipped = true};
    return PEAL_OK;
}

void peal_bus_sources_fini(struct peal_bus_sources *sources)
{
    free(sources->at);
    free(sources->polled);
    *sources = (struct peal_bus_sources){0};
}

void peal_bus_source_socket(struct peal_bus_source *source, void *socket)
{
    int fd = -1;
    size_t size = sizeof fd;
    int rc = zmq_getsockopt(socket, ZMQ_FD, &fd, &size);
    PEAL_ASSERT(rc == 0); /* it is an open socket */
    *source = (struct peal_bus_source){.socket = socket, .fd = fd, .used = true};
}

void peal_bus_source_fd(struct peal_bus_source *source, int fd)
{
    *source = (struct peal_bus_source){.fd = fd};
}

/* Also takes the commands that have come, so that the descriptor tells of the next ones. */
static bool has_input(void *socket)
{
    int events = 0;
    size_t size = sizeof events;
    /* ETERM: the owner finds it when it receives. */
    return zmq_getsockopt(socket, ZMQ_EVENTS, &events, &size) != 0 || (events & ZMQ_POLLIN) != 0;
}

int peal_bus_wait(struct peal_bus_sources *sources, int timeout_ms)
{
    int ready = 0;
    for (size_t i = 0; i < sources->count; i++) {
        struct peal_bus_source *s = &sources->at[i];
        s->ready = !s->skipped && s->used && s->socket != NULL && has_input(s->socket);
        if (!s->skipped) s->used = false;
        if (s->ready) ready++;
        /* poll(2) passes over negative ones. */
        sources->polled[i] =
            (struct pollfd){.fd = s->skipped || s->ready ? -1 : s->fd, .events = POLLIN};
    }
    int rc = poll(sources->polled, sources->count, ready > 0 ? 0 : timeout_ms);
    if (rc < 0) return ready > 0 ? ready : -1;
    for (size_t i = 0; i < sources->count && rc > 0; i++) {
        if (sources->polled[i].revents == 0) continue;
        sources->at[i].ready = true;
        ready++;
    }
    return ready;
}
