/* Preloaded into a server (full_disk.rs): while the file that FULL_DISK names exists, no file of the server grows, as on a disk
   without a free block. What overwrites what is there goes on, as it does there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static int grows(int fd, off_t end) {
    const char *flag = getenv("FULL_DISK");
    struct stat file;
    return flag && access(flag, F_OK) == 0 && fstat(fd, &file) == 0 && S_ISREG(file.st_mode) && end > file.st_size;
}

#define REAL(type, name, ...)                                   \
    static type (*real)(__VA_ARGS__);                           \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *bytes, size_t count) {
    REAL(ssize_t, "write", int, const void *, size_t);
    int before = errno;
    off_t at = lseek(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
    int full = at >= 0 && grows(fd, at + (off_t)count);
    errno = before;
    if (full) return errno = ENOSPC, -1;
    return real(fd, bytes, count);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    if (grows(fd, at + (off_t)count)) return errno = ENOSPC, -1;
    return real(fd, bytes, count, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { return pwrite64(fd, bytes, count, at); }

int fallocate64(int fd, int mode, off64_t from, off64_t length) {
    REAL(int, "fallocate64", int, int, off64_t, off64_t);
    if (grows(fd, from + length)) return errno = ENOSPC, -1;
    return real(fd, mode, from, length);
}

int fallocate(int fd, int mode, off_t from, off_t length) { return fallocate64(fd, mode, from, length); }

int posix_fallocate64(int fd, off64_t from, off64_t length) {
    REAL(int, "posix_fallocate64", int, off64_t, off64_t);
    if (grows(fd, from + length)) return ENOSPC;
    return real(fd, from, length);
}

int posix_fallocate(int fd, off_t from, off_t length) { return posix_fallocate64(fd, from, length); }
