//! Guests that were taken and turn bad when they are asked.

use std::time::Duration;

use super::Hostile;
use super::guest::Guest;

#[test]
fn guests_that_loop_are_cut_off() {
    let loops = "(loop $for-ever (br $for-ever))";
    for (name, guest) in [
        ("loops", Guest::doing(loops)),
        // The host writes an answer into its memory.
        ("loops in realloc", asking().allocating(&format!("{loops} unreachable"))),
        ("loops in post-return", Guest::doing("").afterwards(loops)),
        (
            "recurses for ever in constant stack",
            Guest::doing("(loop $for-ever (drop (call $deep (i32.const 1000))) (br $for-ever))")
                .with(
                    "(func $deep (param i32) (result i32) (if (result i32) (local.get 0)
                       (then (call $deep (i32.sub (local.get 0) (i32.const 1))))
                       (else (i32.const 0))))",
                ),
        ),
    ] {
        Hostile::slow(name, guest).costs_only_its_own_call();
    }
}

/// Asks for a header that is there.
fn asking() -> Guest {
    Guest::doing("(call $request-header (i32.const 64) (i32.const 4) (i32.const 16))")
        .with(r#"(data (i32.const 64) "host")"#)
}

/// So much memory, then this for ever.
fn for_ever(pages: u32, body: &str) -> Guest {
    Guest::doing(&format!(
        "(drop (memory.grow (i32.const {pages}))) (loop $for-ever {body} (br $for-ever))"
    ))
}

#[test]
fn guests_that_keep_the_processor_busy_in_one_instruction_are_cut_off() {
    let bytes = 64_000_000;
    for (name, body) in [
        (
            "fills its memory for ever",
            format!("(memory.fill (i32.const 0) (i32.const 1) (i32.const {bytes}))"),
        ),
        (
            "copies its memory for ever",
            format!("(memory.copy (i32.const 0) (i32.const 1024) (i32.const {bytes}))"),
        ),
    ] {
        Hostile::slow(name, for_ever(1000, &body)).costs_only_its_own_call();
    }
}

#[test]
fn guests_that_keep_the_host_busy_are_cut_off() {
    let blank = "(memory.fill (i32.const 262144) (i32.const 10) (i32.const 1000000))";
    let headers: String =
        (0..60).map(|index| format!("x-{index}: {}\r\n", "v".repeat(900))).collect();
    for hostile in [
        Hostile::slow(
            "asks for a huge header for ever",
            for_ever(32, "(call $request-header (i32.const 0) (i32.const 1000000) (i32.const 16))"),
        ),
        Hostile {
            headers: &headers,
            ..Hostile::slow(
                "asks for all headers for ever",
                for_ever(0, "(call $reset) (call $request-headers (i32.const 16))"),
            )
        },
        Hostile {
            options: "timeout = '20ms'\npeek_body = '1MiB'",
            below: "/big",
            ..Hostile::slow(
                "asks for the body for ever",
                for_ever(
                    32,
                    "(call $reset)
                 (call $response-body (i32.const 0) (i32.const 1048576) (i32.const 16))",
                ),
            )
        },
        Hostile {
            options: "timeout = '20ms'\npeek_body = '1MiB'",
            below: "/big",
            ..Hostile::slow(
                "asks for the body as text for ever",
                for_ever(32, "(call $reset) (call $response-body-text (i32.const 16))"),
            )
        },
        Hostile::slow(
            "asks for random bytes for ever",
            for_ever(0, "(call $reset) (call $random (i64.const 65536) (i32.const 16))"),
        ),
        Hostile::slow(
            "polls a long list for ever",
            Guest::doing(
                "(local $at i32) (local $pollable i32) (drop (memory.grow (i32.const 32)))
                 (local.set $pollable (call $after (i64.const 0)))
                 (local.set $at (i32.const 524288))
                 (loop $more
                   (i32.store (local.get $at) (local.get $pollable))
                   (local.set $at (i32.add (local.get $at) (i32.const 4)))
                   (br_if $more (i32.lt_u (local.get $at) (i32.const 724288))))
                 (loop $for-ever (call $reset)
                   (call $poll (i32.const 524288) (i32.const 50000) (i32.const 16))
                   (br $for-ever))",
            ),
        ),
        Hostile::slow(
            "prints for ever",
            Guest::doing(
                "(local $stderr i32) (local.set $stderr (call $stderr))
                 (memory.fill (i32.const 0) (i32.const 120) (i32.const 4096))
                 (loop $for-ever
                   (call $print (local.get $stderr) (i32.const 0) (i32.const 4096) (i32.const 8192))
                   (br $for-ever))",
            ),
        ),
        Hostile::slow(
            "prints blank lines for ever",
            Guest::doing(&format!(
                "(local $stderr i32) (local.set $stderr (call $stderr))
                 (drop (memory.grow (i32.const 32))) {blank}
                 (loop $for-ever
                   (call $write (local.get $stderr) (i32.const 262144) (i32.const 1000000)
                     (i32.const 16))
                   (br $for-ever))"
            )),
        ),
    ] {
        hostile.costs_only_its_own_call();
    }
}

#[test]
fn guests_that_want_too_much_get_none_of_it() {
    let recursion = "(func $deep (call $deep) (call $deep))";
    let without_end = |body: &str| Guest::doing(&format!("(loop $more {body} (br $more))"));
    for (name, guest) in [
        (
            "grows its memory",
            Guest::doing(
                "(loop $more
                 (br_if $more
                   (i32.ne (memory.grow (i32.const 10)) (i32.const -1)))) unreachable",
            ),
        ),
        (
            "grows its memory at once",
            Guest::doing(
                "(if (i32.eq (memory.grow (i32.const 65000)) (i32.const -1))
                 (then unreachable))",
            ),
        ),
        (
            "grows its table",
            Guest::doing(
                "(loop $more
                   (br_if $more
                     (i32.ne (table.grow $table (ref.null func) (i32.const 1000))
                       (i32.const -1)))) unreachable",
            )
            .with("(table $table 1 funcref)"),
        ),
        ("overflows the stack", Guest::doing("(call $deep)").with(recursion)),
        (
            "overflows the stack in realloc",
            asking().allocating(
                "(call $realloc (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
                 (drop) (i32.const 0)",
            ),
        ),
        (
            "asks for too many random bytes",
            Guest::doing("(call $random (i64.const 4294967296) (i32.const 16))"),
        ),
        ("makes pollables without end", without_end("(drop (call $after (i64.const 0)))")),
        ("makes resources without end", without_end("(drop (call $own (i32.const 1)))")),
        (
            "prints more than fits",
            Guest::doing(
                "(drop (memory.grow (i32.const 32)))
                 (call $write (call $stderr) (i32.const 0) (i32.const 2000000) (i32.const 16))",
            ),
        ),
        (
            "prints zeroes without end",
            Guest::doing(
                "(call $write-zeroes (call $stderr) (i64.const 0xffffffffffff) (i32.const 16))",
            ),
        ),
    ] {
        Hostile::failing(name, guest).costs_only_its_own_call();
    }
}

#[test]
fn guests_that_fail_leave_nothing_behind() {
    let print = "(call $print (call $stderr) (i32.const 64) (i32.const 23) (i32.const 16))";
    for (name, guest) in [
        ("is unreachable", Guest::doing("unreachable")),
        ("divides by zero", Guest::doing("(drop (i32.div_u (i32.const 1) (i32.const 0)))")),
        ("reads out of bounds", Guest::doing("(drop (i32.load (i32.const -4)))")),
        (
            "panics",
            Guest::doing(&format!("{print} unreachable"))
                .with(r#"(data (i32.const 64) "guest panicked\nbecause\n")"#),
        ),
        // If anything of it was left for the next call, that one would not fail.
        (
            "fails when it has changed its memory",
            Guest::doing(
                "(if (i32.eqz (i32.or (i32.load (i32.const 0)) (global.get $changed)))
                   (then (i32.store (i32.const 0) (i32.const 1))
                     (global.set $changed (i32.const 1)) unreachable))",
            )
            .with("(global $changed (mut i32) (i32.const 0))"),
        ),
        ("fails in realloc", asking().allocating("unreachable")),
        ("fails in post-return", Guest::doing("").afterwards("unreachable")),
        ("exits with success", Guest::doing("(call $exit (i32.const 0))")),
        ("exits with failure", Guest::doing("(call $exit (i32.const 1))")),
    ] {
        Hostile::failing(name, guest).costs_only_its_own_call();
    }
}

#[test]
fn guests_that_do_what_they_must_not_are_told_so() {
    for (name, guest) in [
        ("sleeps", Guest::doing("(call $block (call $after (i64.const 1000000000)))")),
        (
            "waits for one of many",
            Guest::doing(
                "(i32.store (i32.const 64) (call $after (i64.const 100000000000)))
                 (i32.store (i32.const 68) (call $after (i64.const 200000000000)))
                 (call $poll (i32.const 64) (i32.const 2) (i32.const 16))",
            ),
        ),
        ("asks in realloc", asking().allocating("(call $number)")),
        ("asks in post-return", Guest::doing("").afterwards("(drop (call $number))")),
        ("allocates out of bounds", asking().allocating("(i32.const -16)")),
        (
            "hands over what is out of bounds",
            Guest::doing("(call $request-header (i32.const -8) (i32.const 4) (i32.const 16))"),
        ),
        (
            "hands over what is no text",
            Guest::doing("(call $request-header (i32.const 64) (i32.const 4) (i32.const 16))")
                .with(r#"(data (i32.const 64) "\ff\fe\fd\fc")"#),
        ),
        (
            "waits for nothing",
            Guest::doing("(call $poll (i32.const 64) (i32.const 0) (i32.const 16))"),
        ),
        ("has a handle of nothing", Guest::doing("(call $block (i32.const 9999))")),
    ] {
        Hostile::failing(name, guest).costs_only_its_own_call();
    }
}

#[test]
fn guests_that_only_try_are_refused_and_may_go_on() {
    let denied = "(if (i32.ne (i32.load8_u (i32.const 16)) (i32.const 1)) (then unreachable))";
    for (name, guest) in [
        (
            "copes with a full memory",
            Guest::doing(
                "(block $refused (loop $more
                   (br_if $refused (i32.eq (memory.grow (i32.const 10)) (i32.const -1)))
                     (br $more)))
                 (memory.fill (i32.const 0) (i32.const 1)
                   (i32.mul (memory.size) (i32.const 65536)))",
            ),
        ),
        (
            "copes with a full table",
            Guest::doing(
                "(loop $more
                   (br_if $more
                     (i32.ne (table.grow $table (ref.null func) (i32.const 1000))
                       (i32.const -1))))",
            )
            .with("(table $table 1 funcref)"),
        ),
        (
            "reads what is not there",
            Guest::doing(&format!(
                "(call $read (call $stdin) (i64.const -1) (i32.const 16)) {denied}"
            )),
        ),
        (
            "opens a connection",
            Guest::doing(&format!("(call $tcp (i32.const 0) (i32.const 16)) {denied}")),
        ),
        (
            "opens a port",
            Guest::doing(&format!("(call $udp (i32.const 1) (i32.const 16)) {denied}")),
        ),
        (
            "looks for files",
            Guest::doing(
                "(call $directories (i32.const 16))
                 (if (i32.load (i32.const 20)) (then unreachable))",
            ),
        ),
        (
            "prints a flood",
            Guest::doing(
                "(local $left i32) (local $stderr i32) (local.set $stderr (call $stderr))
                 (local.set $left (i32.const 256))
                 (memory.fill (i32.const 0) (i32.const 120) (i32.const 4096))
                   (i32.store8 (i32.const 4095) (i32.const 10))
                 (loop $more (call $print (local.get $stderr) (i32.const 0) (i32.const 4096)
                   (i32.const 8192))
                   (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))",
            ),
        ),
    ] {
        Hostile::failing(name, guest).costs_only_its_own_call();
    }
}

#[test]
fn guests_that_no_longer_start_are_asked_in_vain() {
    for (name, body) in [
        ("fails to start later", "unreachable"),
        ("loops at a later start", "(loop $for-ever (br $for-ever))"),
        ("sleeps at a later start", "(call $block (call $after (i64.const 1000000000)))"),
    ] {
        // Time counts from the first look at the clock, which was that of the start at the load.
        let later = format!("(if (i64.gt_u (call $now) (i64.const 200000000)) (then {body}))");
        let guest = Guest::doing("").starting(&later);
        // A worker starts its instance at once, so only one that is not kept starts later.
        let options = "timeout = '20ms'\nisolation = 'per-call'";
        Hostile { later: Duration::from_millis(300), options, ..Hostile::slow(name, guest) }
            .costs_only_its_own_call();
    }
}
