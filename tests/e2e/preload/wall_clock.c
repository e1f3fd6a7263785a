/* The wall clock, ahead or behind by what WALL_OFFSET_FILE says: nanoseconds, 8 bytes, read at
 * each call, so a test moves the clock of a process that runs. Monotonic clocks are left alone.
 *
 * Loaded before libc (LD_PRELOAD).
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000LL

static const volatile int64_t *offset_ns;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("WALL_OFFSET_FILE");
    if (path == NULL)
        return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *found = mmap(NULL, sizeof *offset_ns, PROT_READ, MAP_SHARED, fd, 0);
    if (found == MAP_FAILED)
        abort();
    offset_ns = found;
    close(fd);
}

static int is_wall(clockid_t clock)
{
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int (*real)(clockid_t, struct timespec *) =
        (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (result == 0 && offset_ns != NULL && is_wall(clock)) {
        int64_t shifted_ns = (int64_t)now->tv_sec * NS_PER_S + now->tv_nsec + *offset_ns;
        now->tv_sec = shifted_ns / NS_PER_S;
        now->tv_nsec = shifted_ns % NS_PER_S;
    }
    return result;
}

int gettimeofday(struct timeval *now, void *zone)
{
    struct timespec found;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now)
{
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now != NULL)
        *now = found.tv_sec;
    return found.tv_sec;
}
