// Misdeeds by the path of the request; a predicate that takes everything else.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "policy.h"

// The compiler must believe that what is done here is of use.
static volatile int sink, forever = 1;
static void *volatile kept;

static int recurses(int depth) {
    char frame[256];
    memset(frame, depth, sizeof frame);
    sink = frame[depth & 255];
    if (!forever) return 0;
    return recurses(depth + 1) + frame[depth & 127];
}

static void grows(void) {
    for (;;) {
        char *more = malloc(1 << 20);
        if (!more) {
            fprintf(stderr, "no more memory\n");
            abort();
        }
        memset(more, 1, 1 << 20);
        kept = more;
    }
}

static void does(const char *path) {
    if (!strcmp(path, "/loops")) {
        for (;;) sink++;
    } else if (!strcmp(path, "/recurses")) {
        sink = recurses(1);
    } else if (!strcmp(path, "/grows")) {
        grows();
    } else if (!strcmp(path, "/aborts")) {
        fprintf(stderr, "on purpose\n");
        abort();
    } else if (!strcmp(path, "/writes")) {
        *(volatile char *)0xfffffff0 = 1;
    } else if (!strcmp(path, "/sleeps")) {
        sleep(1);
    }
}

bool exports_fusebox_policy_predicate_handle_if(exports_fusebox_policy_predicate_outcome_t *outcome) {
    policy_string_t path;
    char text[64] = "";
    (void)outcome;
    fusebox_policy_attempt_path_with_query(&path);
    if (path.len < sizeof text) memcpy(text, path.ptr, path.len);
    policy_string_free(&path);
    does(text);
    return true;
}
