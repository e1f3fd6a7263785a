/* Notes every change to files below TRACE_ROOT in TRACE_FILE, in the order in which it happened.
 *
 * Loaded before libc (LD_PRELOAD). One lock holds a call and its note together, so a sync covers
 * exactly the writes that were noted before it. A note is one write to a file: SIGKILL takes back
 * none that is whole, and nobody was told of a sync whose note is missing.
 *
 *     op u32 | fd i32 | at i64 | bytes u64 | payload     (little-endian, as on x86 and ARM)
 *
 *     'o' opened for reading, 'w' for writing, 'c' created, 'd' a directory      path
 *     'p' written at `at`                                                        data
 *     't' size set to `at`      'a' room for `at` bytes      's' synced      'x' closed
 *     'r' renamed: `at` bytes of source, then target         'u' removed     'm' directory made
 *
 * TRACE_FORGETS names a call, fsync or fdatasync, that is not noted: the lying disk that the
 * tests must find out.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS 4096
#define PARTS 1024
#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

struct __attribute__((packed)) head {
    uint32_t op;
    int32_t fd;
    int64_t at;
    uint64_t bytes;
};

static const char *root;
static size_t root_bytes;
static int trace_fd = -1;
static const char *forgets = "";
static char tracked[FDS];
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("TRACE_FILE");
    root = getenv("TRACE_ROOT");
    if (getenv("TRACE_FORGETS") != NULL)
        forgets = getenv("TRACE_FORGETS");
    if (path == NULL || root == NULL)
        return;
    root_bytes = strlen(root);
    int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    int fd = real(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    trace_fd = fcntl(fd, F_DUPFD_CLOEXEC, 900);
    close(fd);
}

/* The part behind the root, with its slash; NULL when it is elsewhere. */
static const char *below(const char *path)
{
    if (trace_fd < 0 || strncmp(path, root, root_bytes) != 0)
        return NULL;
    const char *rest = path + root_bytes;
    return *rest == '/' || *rest == 0 ? rest : NULL;
}

static int is_tracked(int fd)
{
    return fd >= 0 && fd < FDS && tracked[fd];
}

static void note(char op, int fd, int64_t at, const struct iovec *parts, int count)
{
    struct head head = {.op = (uint32_t)op, .fd = fd, .at = at};
    struct iovec all[PARTS + 1] = {{&head, sizeof head}};
    for (int i = 0; i < count; i++) {
        all[i + 1] = parts[i];
        head.bytes += parts[i].iov_len;
    }
    if (writev(trace_fd, all, count + 1) != (ssize_t)(sizeof head + head.bytes))
        abort();
}

static void note_text(char op, int fd, const char *text)
{
    struct iovec part = {(void *)text, strlen(text)};
    note(op, fd, 0, &part, 1);
}

static void note_written(int fd, int64_t at, const struct iovec *parts, int count, ssize_t written)
{
    struct iovec kept[PARTS];
    int used = 0;
    for (; used < count && used < PARTS && written > 0; used++) {
        kept[used] = parts[used];
        if ((ssize_t)kept[used].iov_len > written)
            kept[used].iov_len = (size_t)written;
        written -= (ssize_t)kept[used].iov_len;
    }
    if (written > 0)
        abort();
    note('p', fd, at, kept, used);
}

/* --- names */

static void note_opened(const char *path, int flags, int fd)
{
    const char *rest = below(path);
    if (fd < 0 || rest == NULL)
        return;
    struct stat found;
    if (fd >= FDS || fstat(fd, &found) != 0)
        abort();
    tracked[fd] = 1;
    int writes = (flags & O_ACCMODE) != O_RDONLY;
    note_text(S_ISDIR(found.st_mode) ? 'd' : flags & O_CREAT ? 'c' : writes ? 'w' : 'o', fd, rest);
}

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        REAL(name);                                                                                \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;                                  \
        va_end(rest);                                                                              \
        pthread_mutex_lock(&order);                                                                \
        int fd = real(path, flags, mode);                                                          \
        int error = errno;                                                                         \
        note_opened(path, flags, fd);                                                              \
        pthread_mutex_unlock(&order);                                                              \
        errno = error;                                                                             \
        return fd;                                                                                 \
    }
OPEN(open)
OPEN(open64)

#define ON_PATH(name, op, parameters, arguments)                                                   \
    int name parameters                                                                            \
    {                                                                                              \
        REAL(name);                                                                                \
        pthread_mutex_lock(&order);                                                                \
        int result = real arguments;                                                               \
        int error = errno;                                                                         \
        const char *rest = result == 0 ? below(path) : NULL;                                       \
        if (rest != NULL)                                                                          \
            note_text(op, -1, rest);                                                               \
        pthread_mutex_unlock(&order);                                                              \
        errno = error;                                                                             \
        return result;                                                                             \
    }
ON_PATH(unlink, 'u', (const char *path), (path))
ON_PATH(mkdir, 'm', (const char *path, mode_t mode), (path, mode))

int rename(const char *source, const char *target)
{
    REAL(rename);
    pthread_mutex_lock(&order);
    int result = real(source, target);
    int error = errno;
    const char *from = below(source), *to = below(target);
    if (result == 0 && from != NULL && to != NULL) {
        struct iovec parts[2] = {{(void *)from, strlen(from)}, {(void *)to, strlen(to)}};
        note('r', -1, (int64_t)strlen(from), parts, 2);
    }
    pthread_mutex_unlock(&order);
    errno = error;
    return result;
}

/* --- descriptors */

#define ON_FD(name, op, noted, parameters, arguments, at)                                          \
    int name parameters                                                                            \
    {                                                                                              \
        REAL(name);                                                                                \
        if (!is_tracked(fd))                                                                       \
            return real arguments;                                                                 \
        pthread_mutex_lock(&order);                                                                \
        int result = real arguments;                                                               \
        int error = errno;                                                                         \
        if (result == 0 && (noted))                                                                \
            note(op, fd, at, NULL, 0);                                                             \
        pthread_mutex_unlock(&order);                                                              \
        errno = error;                                                                             \
        return result;                                                                             \
    }
ON_FD(fsync, 's', strcmp(forgets, "fsync") != 0, (int fd), (fd), 0)
ON_FD(fdatasync, 's', strcmp(forgets, "fdatasync") != 0, (int fd), (fd), 0)
ON_FD(ftruncate, 't', 1, (int fd, off_t size), (fd, size), size)
ON_FD(ftruncate64, 't', 1, (int fd, off64_t size), (fd, size), size)
ON_FD(posix_fallocate, 'a', 1, (int fd, off_t from, off_t size), (fd, from, size), from + size)
ON_FD(posix_fallocate64, 'a', 1, (int fd, off64_t from, off64_t size), (fd, from, size),
      from + size)

int close(int fd)
{
    REAL(close);
    if (!is_tracked(fd))
        return real(fd);
    pthread_mutex_lock(&order);
    tracked[fd] = 0;
    note('x', fd, 0, NULL, 0);
    int result = real(fd);
    pthread_mutex_unlock(&order);
    return result;
}

#define WRITING(name, parameters, arguments, parts, count, at)                                     \
    ssize_t name parameters                                                                        \
    {                                                                                              \
        REAL(name);                                                                                \
        if (!is_tracked(fd))                                                                       \
            return real arguments;                                                                 \
        pthread_mutex_lock(&order);                                                                \
        ssize_t written = real arguments;                                                          \
        int error = errno;                                                                         \
        if (written > 0)                                                                           \
            note_written(fd, at, parts, count, written);                                           \
        pthread_mutex_unlock(&order);                                                              \
        errno = error;                                                                             \
        return written;                                                                            \
    }
#define WHOLE (&(struct iovec){(void *)data, bytes})
WRITING(pwrite, (int fd, const void *data, size_t bytes, off_t at), (fd, data, bytes, at), WHOLE, 1,
        at)
WRITING(pwrite64, (int fd, const void *data, size_t bytes, off64_t at), (fd, data, bytes, at),
        WHOLE, 1, at)
WRITING(pwritev, (int fd, const struct iovec *parts, int count, off_t at), (fd, parts, count, at),
        parts, count, at)
WRITING(pwritev64, (int fd, const struct iovec *parts, int count, off64_t at),
        (fd, parts, count, at), parts, count, at)
WRITING(pwritev2, (int fd, const struct iovec *parts, int count, off_t at, int flags),
        (fd, parts, count, at, flags), parts, count, at)
WRITING(pwritev64v2, (int fd, const struct iovec *parts, int count, off64_t at, int flags),
        (fd, parts, count, at, flags), parts, count, at)

/* The log knows no other way to write; a new one must not go unnoticed. */
ssize_t write(int fd, const void *data, size_t bytes)
{
    REAL(write);
    if (is_tracked(fd))
        abort();
    return real(fd, data, bytes);
}
