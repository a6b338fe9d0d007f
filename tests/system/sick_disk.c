/* Loaded before a program under test (LD_PRELOAD): makes its syncs wait, take long or fail, as a
 * file says that both map: PEAL_SICK_DISK names it (tests/system/49-disk-sick.py). */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct control {
    _Atomic uint32_t held;  /* no sync ends while this is not 0 */
    _Atomic uint32_t ms;    /* how long each takes, at least */
    _Atomic uint32_t fail;  /* the errno that each fails with; 0: none does */
    _Atomic uint32_t begun; /* syncs, counted here */
};

static struct control *control;

__attribute__((constructor)) static void control_map(void)
{
    const char *path = getenv("PEAL_SICK_DISK");
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *at = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED) control = at;
}

static int sync_as_told(long number, int fd)
{
    if (control == NULL) return (int)syscall(number, fd);
    uint32_t ms = atomic_load(&control->ms);
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    atomic_fetch_add(&control->begun, 1);
    if (ms > 0) nanosleep(&pause, NULL);
    pause = (struct timespec){.tv_nsec = 1000000};
    while (atomic_load(&control->held) != 0)
        nanosleep(&pause, NULL);
    int fail = (int)atomic_load(&control->fail);
    if (fail == 0) return (int)syscall(number, fd);
    errno = fail;
    return -1;
}

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    return sync_as_told(SYS_fdatasync, fd);
}

__attribute__((visibility("default"))) int fsync(int fd)
{
    return sync_as_told(SYS_fsync, fd);
}
