// Answers 503 in place of the upstream, with the reason, and `Retry-After` from the setting `retry-after` (default 5).

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

// `abort` ends the call: the host logs what was printed, and the original outcome goes out.
static unsigned number_or_abort(const char *name, unsigned value) {
    policy_string_t found;
    if (read_number(name, &value, &found) != SETTING_OK) {
        fprintf(stderr, "setting `%s`: expected a whole number, found `%.*s`\n", name, (int)found.len, found.ptr);
        abort();
    }
    return value;
}

// Everything that an export returns is allocated here, and freed after the host has read it.
bool exports_fusebox_policy_fallback_respond(exports_fusebox_policy_fallback_outcome_t *outcome,
                                             exports_fusebox_policy_fallback_response_t *response) {
    char text[128], seconds[16];
    policy_string_t detail;
    snprintf(seconds, sizeof seconds, "%u", number_or_abort("retry-after", 5));
    if (outcome->tag == FUSEBOX_POLICY_TYPES_OUTCOME_RESPONSE) {
        snprintf(text, sizeof text, "the upstream failed: status %u\n", outcome->val.response);
    } else if (fusebox_policy_attempt_failure_detail(&detail)) {
        snprintf(text, sizeof text, "the upstream failed: %.*s\n", (int)detail.len, detail.ptr);
        policy_string_free(&detail);
    } else {
        snprintf(text, sizeof text, "the upstream failed: no response\n");
    }

    fusebox_policy_types_header_t *headers = calloc(2, sizeof *headers);
    if (!headers) abort();
    policy_string_dup(&headers[0].name, "content-type");
    policy_string_dup(&headers[0].value, "text/plain; charset=utf-8");
    policy_string_dup(&headers[1].name, "retry-after");
    policy_string_dup(&headers[1].value, seconds);
    response->status = 503;
    response->headers.ptr = headers;
    response->headers.len = 2;
    response->body.tag = FUSEBOX_POLICY_TYPES_CONTENT_TEXT;
    policy_string_dup(&response->body.val.text, text);
    return true;  // false would decline: the original outcome would go out
}
