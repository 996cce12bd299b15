/* A disk that does what disks do: loaded before libc, it sees every write and every flush of the database's files, notes
 * them in their order, lets a flush fail, or runs out of room. Told by environment variables:
 *
 *   DISK_SHIM_BASE   the database file; its log is beside it
 *   DISK_SHIM_TRACE  where writes, truncations, flushes and the process's standard output are noted
 *   DISK_SHIM_FAIL   while that file is there, the next flush fails, and the file goes
 *   DISK_SHIM_ROOM   a file with a number: so many bytes may the database, its log and its ballast have together
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAMES 3
static const char *SUFFIX[NAMES] = {"", "-wal", ".ballast"};
#define BALLAST 2
#define BALLAST_SIZE (64ll << 20)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Which of the files a descriptor is, from 1. */
static char which[65536];
static int trace = -1;

static int (*real_open)(const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fdatasync)(int);
static int (*real_fsync)(int);

__attribute__((constructor)) static void begin(void) {
    real_open = dlsym(RTLD_NEXT, "open");
    real_close = dlsym(RTLD_NEXT, "close");
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    const char *path = getenv("DISK_SHIM_TRACE");
    if (path) trace = real_open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int file_of(int fd) { return fd >= 0 && fd < (int)sizeof which ? which[fd] : 0; }

/* One entry: kind, file, offset, length, bytes. Under the lock. */
static void note(char kind, int file, int64_t offset, const void *bytes, uint32_t length) {
    if (trace < 0) return;
    char head[14] = {kind, (char)file};
    memcpy(head + 2, &offset, 8);
    memcpy(head + 10, &length, 4);
    if (real_write(trace, head, sizeof head) != sizeof head) abort();
    if (length && real_write(trace, bytes, length) != (ssize_t)length) abort();
}

/* Whether the files may grow by so much. */
static int has_room(int64_t more) {
    const char *path = getenv("DISK_SHIM_ROOM"), *base = getenv("DISK_SHIM_BASE");
    if (!path || !base || more <= 0) return 1;
    char text[32] = "", name[4096];
    int fd = real_open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 1;
    if (read(fd, text, sizeof text - 1) < 0) text[0] = 0;
    real_close(fd);
    int64_t taken = 0;
    for (int at = 0; at < NAMES; at++) {
        struct stat found;
        snprintf(name, sizeof name, "%s%s", base, SUFFIX[at]);
        if (stat(name, &found) == 0) taken += found.st_size;
    }
    return taken + more <= atoll(text);
}

static int opened(const char *path, int flags, mode_t mode) {
    const char *base = getenv("DISK_SHIM_BASE");
    int file = 0;
    char name[4096];
    for (int at = 0; base && at < NAMES; at++) {
        snprintf(name, sizeof name, "%s%s", base, SUFFIX[at]);
        if (strcmp(path, name) == 0) file = at + 1;
    }
    if (file == BALLAST + 1 && (flags & O_CREAT) && !has_room(BALLAST_SIZE)) {
        errno = ENOSPC;
        return -1;
    }
    int fd = real_open(path, flags, mode);
    if (fd >= 0 && fd < (int)sizeof which) which[fd] = file == BALLAST + 1 ? 0 : file;
    return fd;
}

#define OPEN(NAME) \
    int NAME(const char *path, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        return opened(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    if (fd >= 0 && fd < (int)sizeof which) which[fd] = 0;
    return real_close(fd);
}

static ssize_t written(int fd, const void *bytes, size_t length, off_t at, int moves) {
    struct stat before;
    int64_t size = fstat(fd, &before) == 0 ? before.st_size : 0;
    pthread_mutex_lock(&lock);
    ssize_t count = -1;
    if (!has_room(at + (int64_t)length - size)) {
        errno = ENOSPC;
    } else {
        count = moves ? real_write(fd, bytes, length) : real_pwrite(fd, bytes, length, at);
        if (count > 0) note('W', file_of(fd), at, bytes, (uint32_t)count);
    }
    pthread_mutex_unlock(&lock);
    return count;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    if (fd == STDOUT_FILENO && trace >= 0) {
        pthread_mutex_lock(&lock);
        note('O', 0, 0, bytes, (uint32_t)length);
        pthread_mutex_unlock(&lock);
    }
    if (!file_of(fd)) return real_write(fd, bytes, length);
    return written(fd, bytes, length, lseek(fd, 0, SEEK_CUR), 1);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    return file_of(fd) ? written(fd, bytes, length, at, 0) : real_pwrite(fd, bytes, length, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) { return pwrite(fd, bytes, length, at); }

int ftruncate(int fd, off_t length) {
    if (!file_of(fd)) return real_ftruncate(fd, length);
    pthread_mutex_lock(&lock);
    int result = real_ftruncate(fd, length);
    if (result == 0) note('T', file_of(fd), length, 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }

static int flushed(int fd, int (*flush)(int)) {
    if (!file_of(fd)) return flush(fd);
    const char *fail = getenv("DISK_SHIM_FAIL");
    if (fail && unlink(fail) == 0) {
        pthread_mutex_lock(&lock);
        note('F', file_of(fd), 0, 0, 0);
        pthread_mutex_unlock(&lock);
        errno = EIO;
        return -1;
    }
    /* What is written meanwhile need not be in it, so nothing is. */
    pthread_mutex_lock(&lock);
    int result = trace >= 0 && !fail ? 0 : flush(fd);
    if (result == 0) note('S', file_of(fd), 0, 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int fdatasync(int fd) { return flushed(fd, real_fdatasync); }
int fsync(int fd) { return flushed(fd, real_fsync); }
