#include "values.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "../common/text.h"

bool take_arguments(napi_env env, napi_callback_info info, size_t wanted, napi_value values[MAX_ARGUMENTS])
{
    size_t count = MAX_ARGUMENTS;
    if (napi_get_cb_info(env, info, &count, values, NULL, NULL) == napi_ok && count >= wanted)
        return true;
    throw_type_error(env, "too few arguments");
    return false;
}

bool take_number(napi_env env, napi_value value, int64_t most, int64_t *result)
{
    double number;
    if (napi_get_value_double(env, value, &number) == napi_ok && number >= 0 && number <= (double)most &&
        number == (double)(int64_t)number) {
        *result = (int64_t)number;
        return true;
    }
    throw_type_error(env, "not a whole number within its bounds");
    return false;
}

bool take_descriptor(napi_env env, napi_value value, int *fd)
{
    int64_t number;
    if (!take_number(env, value, INT_MAX, &number))
        return false;
    *fd = (int)number;
    return true;
}

bool take_bytes(napi_env env, napi_value value, uint8_t **bytes, size_t *length)
{
    napi_typedarray_type type;
    void *data;
    if (napi_get_typedarray_info(env, value, &type, length, &data, NULL, NULL) == napi_ok &&
        type == napi_uint8_array) {
        *bytes = data;
        return true;
    }
    throw_type_error(env, "not a Uint8Array");
    return false;
}

napi_value give_number(napi_env env, int64_t number)
{
    napi_value value = NULL;
    napi_create_int64(env, number, &value);
    return value;
}

napi_value give_undefined(napi_env env)
{
    napi_value value = NULL;
    napi_get_undefined(env, &value);
    return value;
}

static void set_text(napi_env env, napi_value object, const char *name, const char *text)
{
    napi_value value;
    if (napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &value) == napi_ok)
        napi_set_named_property(env, object, name, value);
}

napi_value make_errno(napi_env env, const char *call, int number)
{
    char message[128];
    napi_value text;
    napi_value code;
    napi_value error = NULL;
    const char *name = errno_name(number);
    snprintf(message, sizeof message, "%s: %s", call, name);
    napi_create_string_utf8(env, message, NAPI_AUTO_LENGTH, &text);
    napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &code);
    napi_create_error(env, code, text, &error);
    set_text(env, error, "syscall", call);
    return error;
}

napi_value throw_errno(napi_env env, const char *call, int number)
{
    napi_throw(env, make_errno(env, call, number));
    return NULL;
}

napi_value throw_type_error(napi_env env, const char *message)
{
    napi_throw_type_error(env, NULL, message);
    return NULL;
}
