/* What surrounds a process, and can be broken without rights: preloaded, and ruled by files of tests/chaos.

   FULL_DISK names a folder and FULL_DISK_WHILE a file. While the file is there, the disk of the folder is full: what is
   there can be written over, and nothing grows. CLOCK names a file with the seconds by which the time of day is ahead;
   while it is away, the time is right. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define LOOKED_AT_EVERY_NS 20000000 /* programs ask for the time all the time */

static int has_no_room(int fd, off_t end) {
    const char *folder = getenv("FULL_DISK"), *flag = getenv("FULL_DISK_WHILE");
    struct stat found;
    char link[64], path[4096];
    ssize_t length;
    int before = errno;
    if (!folder || !flag || access(flag, F_OK) || fstat(fd, &found) || !S_ISREG(found.st_mode)) {
        errno = before;
        return 0;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    errno = before;
    return length > 0 && !strncmp(path, folder, strlen(folder)) && end > found.st_size;
}

static off_t here(int fd) {
    struct stat found;
    if (fcntl(fd, F_GETFL) & O_APPEND) return fstat(fd, &found) ? 0 : found.st_size;
    return lseek(fd, 0, SEEK_CUR);
}

static size_t bytes_in(const struct iovec *pieces, int count) {
    size_t bytes = 0;
    for (int each = 0; each < count; each++) bytes += pieces[each].iov_len;
    return bytes;
}

#define FULL(fd, end) if (has_no_room(fd, end)) { errno = ENOSPC; return -1; }

ssize_t write(int fd, const void *from, size_t bytes) {
    FULL(fd, here(fd) + (off_t)bytes)
    return NEXT(write)(fd, from, bytes);
}
ssize_t writev(int fd, const struct iovec *pieces, int count) {
    FULL(fd, here(fd) + (off_t)bytes_in(pieces, count))
    return NEXT(writev)(fd, pieces, count);
}
ssize_t pwrite(int fd, const void *from, size_t bytes, off_t at) {
    FULL(fd, at + (off_t)bytes)
    return NEXT(pwrite)(fd, from, bytes, at);
}
ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t at) {
    FULL(fd, at + (off_t)bytes_in(pieces, count))
    return NEXT(pwritev)(fd, pieces, count, at);
}
int posix_fallocate(int fd, off_t at, off_t bytes) {
    return has_no_room(fd, at + bytes) ? ENOSPC : NEXT(posix_fallocate)(fd, at, bytes);
}
ssize_t pwrite64(int, const void *, size_t, off_t) __attribute__((alias("pwrite")));
ssize_t pwritev64(int, const struct iovec *, int, off_t) __attribute__((alias("pwritev")));
int posix_fallocate64(int, off_t, off_t) __attribute__((alias("posix_fallocate")));

static long ahead_s(void) {
    static long ahead, looked_at;
    const char *file = getenv("CLOCK");
    struct timespec now;
    char text[32];
    ssize_t length;
    int fd, before = errno;
    if (!file) return 0;
    NEXT(clock_gettime)(CLOCK_MONOTONIC, &now);
    if (now.tv_sec * 1000000000L + now.tv_nsec - looked_at > LOOKED_AT_EVERY_NS) {
        looked_at = now.tv_sec * 1000000000L + now.tv_nsec;
        if ((fd = open(file, O_RDONLY | O_CLOEXEC)) < 0) {
            ahead = 0;
        } else {
            if ((length = read(fd, text, sizeof text - 1)) > 0) {
                text[length] = 0;
                ahead = atol(text);
            }
            close(fd);
        }
    }
    errno = before;
    return ahead;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = NEXT(clock_gettime)(clock, now);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += ahead_s();
    return result;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int result = NEXT(gettimeofday)(now, zone);
    if (!result) now->tv_sec += ahead_s();
    return result;
}
time_t time(time_t *now) {
    time_t found = NEXT(time)(NULL) + ahead_s();
    if (now) *now = found;
    return found;
}
