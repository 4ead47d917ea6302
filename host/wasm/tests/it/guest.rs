//! Guests written in WAT: the whole of each is in the test that uses it.
//!
//! [`guest`] makes a component of a core module's fields. They may import any function of `attempt`
//! and `settings` (module names `attempt` and `settings`, lowered) and find a memory of one page
//! with a bump allocator from 4096 up, `$alloc`. They define what they export: `$handle-if (param
//! i32 i32) (result i32)`, `$respond (param i32 i32) (result i32)`, `$after (param i32 i32 i32 i32)
//! (result i32)`, `$key (result i32)`.

use fusebox_dev::{DELAY, FALLBACK, KEY, PREDICATE, TYPES, encode, handle_if, respond};

/// The functions of the contract as a component imports them.
const IMPORTS: &str = r#"
  (import "fusebox:policy/attempt@0.1.0" (instance $attempt
    (alias outer 1 $header (type $header')) (export "header" (type $header (eq $header')))
    (alias outer 1 $slot (type $slot')) (export "slot" (type $slot (eq $slot')))
    (alias outer 1 $past (type $past')) (export "past-attempt" (type $past (eq $past')))
    (export "route" (func (result string)))
    (export "policy" (func (result string)))
    (export "asked" (func (result $slot)))
    (export "number" (func (result u32)))
    (export "history" (func (result (list $past))))
    (export "elapsed-ms" (func (result u32)))
    (export "remaining-ms" (func (result (option u32))))
    (export "method" (func (result string)))
    (export "scheme" (func (result string)))
    (export "authority" (func (result string)))
    (export "path-with-query" (func (result string)))
    (export "request-header" (func (param "name" string) (result (option string))))
    (export "request-headers" (func (result (list $header))))
    (export "failure-detail" (func (result (option string))))
    (export "response-header" (func (param "name" string) (result (option string))))
    (export "response-headers" (func (result (list $header))))
    (export "response-body" (func (param "offset" u32) (param "length" u32) (result (list u8))))
    (export "response-body-text" (func (result (option string))))
    (export "response-body-complete" (func (result bool)))
    (export "response-trailer" (func (param "name" string) (result (option string))))
    (export "protocol" (func (result string)))
    (export "endpoint" (func (result (option string))))
    (export "endpoint-protocol" (func (result (option string))))
  ))
  (import "fusebox:policy/settings@0.1.0" (instance $settings
    (export "get" (func (param "name" string) (result (option string))))
  ))
"#;

const ATTEMPT: [&str; 23] = [
    "route",
    "policy",
    "asked",
    "number",
    "history",
    "elapsed-ms",
    "remaining-ms",
    "method",
    "scheme",
    "authority",
    "path-with-query",
    "request-header",
    "request-headers",
    "failure-detail",
    "response-header",
    "response-headers",
    "response-body",
    "response-body-text",
    "response-body-complete",
    "response-trailer",
    "protocol",
    "endpoint",
    "endpoint-protocol",
];

/// Memory and an allocator, in a module of their own because lowered imports need them before the
/// guest exists.
const ALLOCATOR: &str = r#"
  (core module $allocator
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 4096))
    (func (export "reset") (global.set $next (i32.const 4096)))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $start i32)
      (local.set $start (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $start) (local.get 3)))
      (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536)))
        (then (drop (memory.grow (i32.const 16)))))
      (local.get $start)))
  (core instance $allocator (instantiate $allocator))
  (alias core export $allocator "memory" (core memory $memory))
  (alias core export $allocator "realloc" (core func $realloc))
"#;

/// Which interfaces a guest exports.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Exports {
    Predicate,
    Fallback,
    Both,
    Delay,
    Key,
    None,
}

/// A component around these fields of a core module.
#[track_caller]
pub(crate) fn guest(exports: Exports, fields: &str) -> Vec<u8> {
    encode(&text(exports, "", "", fields))
}

/// A predicate whose `handle-if` has this body: it finds the outcome's case in `$case` (0: a
/// response, 1: a failure) and its status, or number of the failure, in `$value`.
#[track_caller]
pub(crate) fn predicate(body: &str) -> Vec<u8> {
    guest(Exports::Predicate, &handle_if(body))
}

/// A fallback that answers 200 with the text at the address and length that `body` leaves at 16 and
/// 20: what it would know.
#[track_caller]
pub(crate) fn tells(imports: &str, body: &str) -> Vec<u8> {
    let respond = respond(&format!(
        "(call $reset)
         (i64.store (i32.const 16) (i64.const 0))
         {body}
         (i32.store8 (i32.const 128) (i32.const 1))
         (i32.store16 (i32.const 132) (i32.const 200))
         (i32.store (i32.const 140) (i32.const 0))
         (i32.store8 (i32.const 144) (i32.const 0))
         (i32.store (i32.const 148) (i32.load (i32.const 16)))
         (i32.store (i32.const 152) (i32.load (i32.const 20)))
         (i32.const 128)"
    ));
    let reset = r#"(import "allocator" "reset" (func $reset))"#;
    guest(Exports::Fallback, &format!("{reset} {imports} {respond}"))
}

/// The text of such a component, with more imports and definitions of the component (`outer`) and
/// more arguments for the guest's module (`arguments`).
pub(crate) fn text(exports: Exports, outer: &str, arguments: &str, fields: &str) -> String {
    let lowered: String = ATTEMPT
        .iter()
        .map(|name| {
            format!(
                r#"(core func ${name}
                  (canon lower (func $attempt "{name}") (memory $memory)
                    (realloc (core func $realloc))))"#
            )
        })
        .collect();
    let attempt: String =
        ATTEMPT.iter().map(|name| format!(r#"(export "{name}" (func ${name}))"#)).collect();
    let exported = match exports {
        Exports::Predicate => PREDICATE.to_owned(),
        Exports::Fallback => FALLBACK.to_owned(),
        Exports::Both => format!("{PREDICATE} {FALLBACK}"),
        Exports::Delay => DELAY.to_owned(),
        Exports::Key => KEY.to_owned(),
        Exports::None => String::new(),
    };
    // The allocator's memory is imported first, so that every guest can name its functions' imports
    // after it.
    format!(
        r#"(component {TYPES} {IMPORTS} {ALLOCATOR} {lowered}
          (core func $get
            (canon lower (func $settings "get") (memory $memory) (realloc (core func $realloc))))
          {outer}
          (core module $guest (import "allocator" "memory" (memory 1)) {fields})
          (core instance $guest (instantiate $guest
            (with "allocator" (instance $allocator))
            (with "attempt" (instance {attempt}))
            (with "settings" (instance (export "get" (func $get))))
            {arguments}))
          {exported})"#
    )
}
