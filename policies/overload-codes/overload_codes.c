// Cloud services say with an error code that they are overloaded, under statuses that also mean other things (DynamoDB: 400).
// Takes an error response for a failure if its code is one of overload, and nothing else: what a retry is for.
//
// Setting `vendor`: `aws`, `azure` or `google`. The code is looked for in the vendor's header, and then in the body, as much
// of it as `peek_body` of the component allows: without it only the header counts.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy.h"

struct vendor {
    const char *name;
    const char *header;     // where the code is; NULL: only in the body
    const char *fields[4];  // what stands before it in a body, JSON or XML
    const char *codes[16];
};

static const struct vendor VENDORS[] = {
    {
        .name = "aws",
        .header = "x-amzn-errortype",
        .fields = {"\"__type\"", "\"code\"", "<Code>"},
        .codes = {"Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException",
                  "TooManyRequestsException", "ProvisionedThroughputExceededException", "RequestLimitExceeded",
                  "BandwidthLimitExceeded", "LimitExceededException", "SlowDown", "PriorRequestNotComplete",
                  "TransactionInProgressException", "EC2ThrottledException"},
    },
    {
        .name = "azure",
        .header = "x-ms-error-code",
        .fields = {"\"code\"", "<Code>"},
        .codes = {"ServerBusy", "TooManyRequests", "RequestRateTooLarge", "ResourceRequestsThrottled",
                  "SubscriptionRequestsThrottled"},
    },
    {
        .name = "google",
        .fields = {"\"status\"", "\"reason\""},
        .codes = {"RESOURCE_EXHAUSTED", "UNAVAILABLE", "rateLimitExceeded", "userRateLimitExceeded"},
    },
};

enum setting_error { SETTING_OK, SETTING_MISSING, SETTING_UNKNOWN };

// On SETTING_UNKNOWN, `found` is the setting; the caller frees it.
static enum setting_error read_vendor(const struct vendor **vendor, policy_string_t *found) {
    policy_string_t name;
    policy_string_set(&name, "vendor");
    if (!fusebox_policy_settings_get(&name, found)) return SETTING_MISSING;
    for (size_t i = 0; i < sizeof VENDORS / sizeof *VENDORS; i++) {
        if (found->len == strlen(VENDORS[i].name) && memcmp(found->ptr, VENDORS[i].name, found->len) == 0) {
            *vendor = &VENDORS[i];
            policy_string_free(found);
            return SETTING_OK;
        }
    }
    return SETTING_UNKNOWN;
}

// Settings don't change while an instance lives. Without a vendor there is no answer: the host logs what is printed, and
// the `on_error` of the component decides.
static const struct vendor *configured_vendor(void) {
    static const struct vendor *vendor;
    policy_string_t found;
    if (vendor) return vendor;
    switch (read_vendor(&vendor, &found)) {
    case SETTING_OK:
        return vendor;
    case SETTING_MISSING:
        fputs("setting `vendor`: expected `aws`, `azure` or `google`, found nothing\n", stderr);
        abort();
    case SETTING_UNKNOWN:
        fprintf(stderr, "setting `vendor`: expected `aws`, `azure` or `google`, found `%.*s`\n", (int)found.len, found.ptr);
        abort();
    }
    abort();
}

// A code may come as `com.amazon.example#Code:http://…`: what counts is between `#` and `:`.
static bool is_overload(const struct vendor *vendor, const char *code, size_t length) {
    const char *colon = memchr(code, ':', length);
    if (colon) length = colon - code;
    const char *hash = memchr(code, '#', length);
    if (hash) length -= hash + 1 - code, code = hash + 1;
    for (const char *const *known = vendor->codes; *known; known++) {
        if (strlen(*known) == length && memcmp(*known, code, length) == 0) return true;
    }
    return false;
}

static bool header_says_so(const struct vendor *vendor) {
    policy_string_t name, value;
    if (!vendor->header) return false;
    policy_string_set(&name, vendor->header);
    if (!fusebox_policy_attempt_response_header(&name, &value)) return false;
    bool overload = is_overload(vendor, (const char *)value.ptr, value.len);
    policy_string_free(&value);
    return overload;
}

// The value after each `field` in a nul-terminated `body`: `"field" : "value"` or `<field>value<`.
static bool field_says_so(const struct vendor *vendor, const char *body, const char *field) {
    bool json = field[0] == '"';
    while ((body = strstr(body, field))) {
        body += strlen(field);
        const char *value = body;
        if (json) {
            value += strspn(value, " \t\r\n");
            if (*value++ != ':') continue;
            value += strspn(value, " \t\r\n");
            if (*value++ != '"') continue;
        }
        if (is_overload(vendor, value, strcspn(value, json ? "\"" : "<"))) return true;
    }
    return false;
}

static bool body_says_so(const struct vendor *vendor) {
    policy_string_t text;
    if (!fusebox_policy_attempt_response_body_text(&text)) return false;
    char *body = strndup((const char *)text.ptr, text.len);
    policy_string_free(&text);
    if (!body) abort();
    bool overload = false;
    for (const char *const *field = vendor->fields; *field && !overload; field++) {
        overload = field_says_so(vendor, body, *field);
    }
    free(body);
    return overload;
}

bool exports_fusebox_policy_predicate_handle_if(exports_fusebox_policy_predicate_outcome_t *outcome) {
    const struct vendor *vendor = configured_vendor();
    if (outcome->tag != FUSEBOX_POLICY_TYPES_OUTCOME_RESPONSE || outcome->val.response < 400) return false;
    return header_says_so(vendor) || body_says_so(vendor);
}
