#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "bench/sink.h"

struct file {
    int fd;
    struct peal_buf out;
    uint32_t *slots; /* of what is in `out`, then of what is synced */
    uint32_t count;
};

static enum peal_err file_open(struct peal_sink *sink)
{
    char path[4096];
    struct file *file = calloc(1, sizeof(*file));
    sink->self = file;
    if (file == NULL) return peal_sink_fail(sink, PEAL_ENOMEM, "file", "memory");
    snprintf(path, sizeof(path), "%s/floor", sink->plan->folder);
    file->slots = calloc(sink->plan->slots, sizeof(*file->slots));
    file->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file->slots == NULL || file->fd < 0)
        return peal_sink_fail(sink, PEAL_EIO, "file", strerror(errno));
    return PEAL_OK;
}

static void file_close(struct peal_sink *sink)
{
    struct file *file = sink->self;
    if (file == NULL) return;
    if (file->fd >= 0) close(file->fd);
    peal_buf_fini(&file->out);
    free(file->slots);
    free(file);
}

static enum peal_err file_put(struct peal_sink *sink, uint32_t user, uint32_t slot,
                              struct peal_span payload)
{
    struct file *file = sink->self;
    peal_buf_add(&file->out, &user, sizeof(user));
    peal_buf_add_span(&file->out, payload);
    file->slots[file->count++] = slot;
    return file->out.failed ? peal_sink_fail(sink, PEAL_ENOMEM, "file", "memory") : PEAL_OK;
}

static enum peal_err file_flush(struct peal_sink *sink)
{
    struct file *file = sink->self;
    if (file->out.size == 0) return PEAL_OK;
    ssize_t done = write(file->fd, file->out.at, file->out.size);
    if (done != (ssize_t)file->out.size || fdatasync(file->fd) != 0)
        return peal_sink_fail(sink, PEAL_EIO, "file", strerror(errno));
    file->out.size = 0;
    return PEAL_OK;
}

static enum peal_err file_take(struct peal_sink *sink, int wait_ms)
{
    struct file *file = sink->self;
    (void)wait_ms;
    for (uint32_t i = 0; i < file->count; i++)
        sink->on_answer(sink->ctx, file->slots[i], true);
    file->count = 0;
    return PEAL_OK;
}

const struct peal_sink_kind peal_sink_file = {
    .name = "file",
    .in_process = true,
    .open = file_open,
    .put = file_put,
    .flush = file_flush,
    .take = file_take,
    .close = file_close,
};
