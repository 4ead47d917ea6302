// Waits for as long as a response with the status of the setting `status` (default 429) says in its header `x-wait-ms`, in place
// of the policy's own delay.

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

// `abort` ends the call: the host logs what was printed, and the policy's own delay holds.
static unsigned number_or_abort(const char *name, unsigned value) {
    policy_string_t found;
    if (read_number(name, &value, &found) != SETTING_OK) {
        fprintf(stderr, "setting `%s`: expected a whole number, found `%.*s`\n", name, (int)found.len, found.ptr);
        abort();
    }
    return value;
}

// The whole number in a response header, of up to nine digits.
static bool read_response_number(const char *text, uint32_t *number) {
    policy_string_t name, value;
    policy_string_set(&name, text);
    if (!fusebox_policy_attempt_response_header(&name, &value)) return false;
    bool is_number = value.len > 0 && value.len <= 9;
    *number = 0;
    for (size_t i = 0; is_number && i < value.len; i++) {
        is_number = value.ptr[i] >= '0' && value.ptr[i] <= '9';
        *number = *number * 10 + (value.ptr[i] - '0');
    }
    policy_string_free(&value);
    return is_number;
}

void exports_fusebox_policy_delay_after(exports_fusebox_policy_delay_outcome_t *outcome, uint32_t own_ms, uint32_t count,
                                        exports_fusebox_policy_delay_decision_t *decision) {
    (void)own_ms, (void)count;
    unsigned status = number_or_abort("status", 429);
    decision->tag = EXPORTS_FUSEBOX_POLICY_DELAY_DECISION_OWN;
    if (outcome->tag == FUSEBOX_POLICY_TYPES_OUTCOME_RESPONSE && outcome->val.response == status &&
        read_response_number("x-wait-ms", &decision->val.wait)) {
        decision->tag = EXPORTS_FUSEBOX_POLICY_DELAY_DECISION_WAIT;
    }
}
