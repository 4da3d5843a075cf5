#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "values.h"

#define MAX_BYTES (INT64_C(1) << 46)
#define MAX_NAME_BYTES 64

/* Freed by the finalizer, which runs once the ArrayBuffer is gone, detached or not. */
struct mapping {
    void *address;
    size_t length;
    bool is_mapped;
    /* JavaScript has it, so its finalizer will run, once. */
    bool is_given;
    struct mapping *next;
};

/* All mappings of one JavaScript environment: unmap() is given an ArrayBuffer, and must know that it is one of ours. */
struct mappings {
    struct mapping *first;
};

/* memfd(name, sizeBytes): of this size for ever. */
napi_value create_memfd(napi_env env, napi_callback_info info)
{
    napi_value values[MAX_ARGUMENTS];
    char name[MAX_NAME_BYTES];
    int64_t size;
    if (!take_arguments(env, info, 2, values) || !take_number(env, values[1], MAX_BYTES, &size))
        return NULL;
    if (napi_get_value_string_utf8(env, values[0], name, sizeof name, NULL) != napi_ok)
        return throw_type_error(env, "not a name");
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd == -1)
        return throw_errno(env, "memfd_create", errno);
    if (ftruncate(fd, size) == -1 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == -1) {
        int number = errno;
        close(fd);
        return throw_errno(env, "ftruncate", number);
    }
    return give_number(env, fd);
}

/* EPERM: the file may shrink. EINVAL: the range is not within it. */
static int check_range(int fd, int64_t offset, int64_t size)
{
    struct stat status;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals == -1 || (seals & F_SEAL_SHRINK) == 0)
        return EPERM;
    if (fstat(fd, &status) == -1)
        return errno;
    return size > 0 && offset <= status.st_size && size <= status.st_size - offset ? 0 : EINVAL;
}

static void free_list(napi_env env, void *data, void *hint)
{
    (void)env;
    (void)hint;
    free(data);
}

static struct mappings *mappings_of(napi_env env)
{
    void *data = NULL;
    if (napi_get_instance_data(env, &data) == napi_ok && data != NULL)
        return data;
    struct mappings *list = calloc(1, sizeof *list);
    if (list != NULL)
        napi_set_instance_data(env, list, free_list, NULL);
    return list;
}

static void take_out(napi_env env, const struct mapping *mapping)
{
    void *data = NULL;
    /* There is no list any more when the whole environment ends. */
    if (napi_get_instance_data(env, &data) != napi_ok || data == NULL)
        return;
    struct mappings *list = data;
    for (struct mapping **at = &list->first; *at != NULL; at = &(*at)->next) {
        if (*at == mapping) {
            *at = mapping->next;
            return;
        }
    }
}

static void release(napi_env env, void *data, void *hint)
{
    (void)data;
    struct mapping *mapping = hint;
    if (mapping->is_mapped) {
        take_out(env, mapping);
        mapping->is_mapped = false;
        munmap(mapping->address, mapping->length);
    }
    if (mapping->is_given)
        free(mapping);
}

/* mapShared(fd, offset, sizeBytes, writable): an ArrayBuffer. */
napi_value map_shared(napi_env env, napi_callback_info info)
{
    napi_value values[MAX_ARGUMENTS];
    int64_t offset;
    int64_t size;
    bool writable;
    int fd;
    if (!take_arguments(env, info, 4, values) || !take_descriptor(env, values[0], &fd) ||
        !take_number(env, values[1], MAX_BYTES, &offset) || !take_number(env, values[2], MAX_BYTES, &size))
        return NULL;
    if (napi_get_value_bool(env, values[3], &writable) != napi_ok)
        return throw_type_error(env, "not a boolean");
    int number = check_range(fd, offset, size);
    if (number != 0)
        return throw_errno(env, "mmap", number);
    struct mapping *mapping = calloc(1, sizeof *mapping);
    if (mapping == NULL)
        return throw_errno(env, "mmap", ENOMEM);
    mapping->length = (size_t)size;
    mapping->address = mmap(NULL, mapping->length, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, offset);
    if (mapping->address == MAP_FAILED) {
        number = errno;
        free(mapping);
        return throw_errno(env, "mmap", number);
    }
    napi_value buffer = NULL;
    struct mappings *list = mappings_of(env);
    mapping->is_mapped = true;
    if (list == NULL || napi_create_external_arraybuffer(env, mapping->address, mapping->length, release, mapping,
                                                         &buffer) != napi_ok) {
        /* Some refusals have called the finalizer and some have not, so the record of a refused one is never freed. */
        release(env, NULL, mapping);
        return throw_errno(env, "mmap", ENOMEM);
    }
    mapping->is_given = true;
    mapping->next = list->first;
    list->first = mapping;
    return buffer;
}

static struct mapping *find_mapping(napi_env env, const void *address)
{
    struct mappings *list = mappings_of(env);
    struct mapping *mapping = list == NULL ? NULL : list->first;
    while (mapping != NULL && mapping->address != address)
        mapping = mapping->next;
    return mapping;
}

/* unmap(buffer): of mapShared; its views have no bytes afterwards. */
napi_value unmap(napi_env env, napi_callback_info info)
{
    napi_value values[MAX_ARGUMENTS];
    void *address = NULL;
    size_t length;
    if (!take_arguments(env, info, 1, values))
        return NULL;
    if (napi_get_arraybuffer_info(env, values[0], &address, &length) != napi_ok || address == NULL)
        return throw_type_error(env, "not a mapped ArrayBuffer");
    struct mapping *mapping = find_mapping(env, address);
    if (mapping == NULL || napi_detach_arraybuffer(env, values[0]) != napi_ok)
        return throw_type_error(env, "not a mapped ArrayBuffer");
    take_out(env, mapping);
    mapping->is_mapped = false;
    munmap(address, length);
    return give_undefined(env);
}
