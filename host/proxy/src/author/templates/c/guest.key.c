// Tells calls apart by the beginning of their path: as many segments as the setting `segments` says (default 1). A shorter path is
// nobody's.

#include <stdio.h>
#include <stdlib.h>

#include "policy.h"  // made from wit/policy.wit by `fusebox component build`, in build/bindings

enum setting_error { SETTING_OK, SETTING_MALFORMED };

// A setting of up to nine digits; `value` keeps its default if it is not set. A malformed one is in `found`, which the caller
// frees.
static enum setting_error read_number(const char *name, unsigned *value, policy_string_t *found) {
    policy_string_t key;
    policy_string_set(&key, name);
    if (!fusebox_policy_settings_get(&key, found)) return SETTING_OK;
    if (found->len == 0 || found->len > 9) return SETTING_MALFORMED;
    unsigned number = 0;
    for (size_t i = 0; i < found->len; i++) {
        if (found->ptr[i] < '0' || found->ptr[i] > '9') return SETTING_MALFORMED;
        number = number * 10 + (found->ptr[i] - '0');
    }
    policy_string_free(found);
    *value = number;
    return SETTING_OK;
}

// `abort` ends the call: the host logs what was printed, and the call has no key.
static unsigned number_or_abort(const char *name, unsigned value) {
    policy_string_t found;
    if (read_number(name, &value, &found) != SETTING_OK) {
        fprintf(stderr, "setting `%s`: expected a whole number, found `%.*s`\n", name, (int)found.len, found.ptr);
        abort();
    }
    return value;
}

// What is returned is freed by the host's bindings, so it is allocated by ours.
bool exports_fusebox_policy_key_key(policy_string_t *key) {
    unsigned segments = number_or_abort("segments", 1);
    policy_string_t target;
    fusebox_policy_attempt_path_with_query(&target);
    // The segments are put one after the other into what the target was in: they only get closer.
    size_t length = 0;
    unsigned found = 0;
    for (size_t i = 0; i < target.len && target.ptr[i] != '?' && found < segments;) {
        if (target.ptr[i] == '/') {
            i++;
            continue;
        }
        if (found++ > 0) target.ptr[length++] = '/';
        while (i < target.len && target.ptr[i] != '/' && target.ptr[i] != '?') target.ptr[length++] = target.ptr[i++];
    }
    if (found < segments || length == 0) {
        policy_string_free(&target);
        return false;
    }
    key->ptr = target.ptr;
    key->len = length;
    return true;
}
