// Takes a response for a failure if it has the status of the setting `status` (default 503) and says when to come back.

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

// `abort` ends the call: the host logs what was printed, and the `on_error` of the component decides.
static unsigned number_or_abort(const char *name, unsigned value) {
    policy_string_t found;
    if (read_number(name, &value, &found) != SETTING_OK) {
        fprintf(stderr, "setting `%s`: expected a whole number, found `%.*s`\n", name, (int)found.len, found.ptr);
        abort();
    }
    return value;
}

static bool has_response_header(const char *text) {
    policy_string_t name, value;
    policy_string_set(&name, text);
    if (!fusebox_policy_attempt_response_header(&name, &value)) return false;
    policy_string_free(&value);
    return true;
}

bool exports_fusebox_policy_predicate_handle_if(exports_fusebox_policy_predicate_outcome_t *outcome) {
    unsigned status = number_or_abort("status", 503);
    return outcome->tag == FUSEBOX_POLICY_TYPES_OUTCOME_RESPONSE && outcome->val.response == status &&
           has_response_header("retry-after");
}
