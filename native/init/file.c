/* Small files of the image and the kernel, whole or not at all. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static ssize_t read_whole(int fd, char *text, size_t size)
{
    size_t used = 0;
    while (used < size) {
        ssize_t count = read(fd, text + used, size - used);
        if (count == -1 && errno == EINTR)
            continue;
        if (count == -1)
            return -1;
        if (count == 0) {
            text[used] = '\0';
            return (ssize_t)used;
        }
        used += (size_t)count;
    }
    errno = EFBIG;
    return -1;
}

ssize_t read_file(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd == -1)
        return -1;
    ssize_t length = read_whole(fd, text, size);
    int number = errno;
    close(fd);
    errno = number;
    if (length != -1 && memchr(text, '\0', (size_t)length) != NULL) {
        errno = EILSEQ;
        return -1;
    }
    return length;
}
