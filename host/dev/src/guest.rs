//! Components as text: [`wat_component`], and the parts that other texts of components share.

/// A component around these fields of a core module. It exports the predicate if they export
/// `handle-if`, the fallback if they export `respond`, the delay if they export `after`, the key if
/// they export `key`, and the standard handler of requests if they export `handle`. They find an
/// imported memory of four pages, whose second page the host writes lists to, and may import
/// `response-body`, `response-trailer` and, from `wasi`, `stderr` and `write`.
#[track_caller]
pub fn wat_component(fields: &str) -> Vec<u8> {
    let exports = |name: &str| fields.contains(&format!(r#"(export "{name}")"#));
    let part = |is_wanted: bool, text: &'static str| if is_wanted { text } else { "" };
    let has_wasi = fields.contains(r#"(import "wasi""#);
    let (stderr, with_stderr) = (part(has_wasi, STDERR), part(has_wasi, WITH_STDERR));
    let predicate = part(exports("handle-if"), PREDICATE);
    let fallback = part(exports("respond"), FALLBACK);
    let delay = part(exports("after"), DELAY);
    let key = part(exports("key"), KEY);
    let has_trailer = fields.contains(TRAILER);
    let attempt = ATTEMPT.replace("TRAILER", part(has_trailer, TRAILER_TYPE));
    let (trailer, with_trailer) =
        (part(has_trailer, TRAILER_LOWERED), part(has_trailer, WITH_TRAILER));
    let has_http = exports("handle");
    let (http, handler) = (part(has_http, HTTP), part(has_http, HANDLER));
    encode(&format!(
        r#"(component {TYPES} {attempt} {stderr} {http}
          (core func $response-body (canon lower (func $attempt "response-body")
            (memory $memory) (realloc (core func $realloc))))
          {trailer}
          (core module $guest (import "memory" "memory" (memory 4)) {fields})
          (core instance $guest (instantiate $guest
            (with "memory" (instance $allocator))
            (with "attempt" (instance (export "response-body" (func $response-body))
              {with_trailer}))
            {with_stderr}))
          {predicate} {fallback} {delay} {key} {handler})"#
    ))
}

/// The component that this text describes.
#[track_caller]
pub fn encode(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The types of the contract, as components import them.
pub const TYPES: &str = r#"
  (import "fusebox:policy/types@0.1.0" (instance $types
    (type $header' (record (field "name" string) (field "value" string)))
    (export "header" (type $header (eq $header')))
    (type $failure' (enum "dns" "connect" "tls" "connection-lost" "protocol" "timeout"
      "circuit-open" "bulkhead-full" "rate-limited" "overloaded" "budget-exceeded"
      "retries-exceeded" "other"))
    (export "failure" (type $failure (eq $failure')))
    (type $outcome' (variant (case "response" u16) (case "failure" $failure)))
    (export "outcome" (type $outcome (eq $outcome')))
    (type $slot' (enum "handle-if" "abort-if" "cancel-if" "ignore-if" "respond"))
    (export "slot" (type $slot (eq $slot')))
    (type $past' (record (field "number" u32) (field "outcome" $outcome) (field "elapsed-ms" u32)))
    (export "past-attempt" (type $past (eq $past')))
    (type $content' (variant (case "text" string) (case "bytes" (list u8))))
    (export "content" (type $content (eq $content')))
    (type $response' (record
      (field "status" u16) (field "headers" (list $header)) (field "body" $content)))
    (export "response" (type $response (eq $response')))))
  (alias export $types "header" (type $header))
  (alias export $types "outcome" (type $outcome))
  (alias export $types "slot" (type $slot))
  (alias export $types "past-attempt" (type $past))
  (alias export $types "response" (type $response))
"#;

/// Lifts the predicate of the core instance `$guest` and exports it.
pub const PREDICATE: &str = r#"
  (func $handle-if (param "outcome" $outcome) (result bool)
    (canon lift (core func $guest "handle-if")))
  (instance $predicate (export "handle-if" (func $handle-if)))
  (export "fusebox:policy/predicate@0.1.0" (instance $predicate))
"#;

/// Lifts the fallback of the core instance `$guest` and exports it.
pub const FALLBACK: &str = r#"
  (func $respond (param "outcome" $outcome) (result (option $response))
    (canon lift (core func $guest "respond") (memory $memory) (realloc (core func $realloc))))
  (instance $fallback (export "respond" (func $respond)))
  (export "fusebox:policy/fallback@0.1.0" (instance $fallback))
"#;

/// Lifts the delay of the core instance `$guest` and exports it.
pub const DELAY: &str = r#"
  (type $decision (variant (case "own") (case "wait" u32) (case "give-up")))
  (func $after (param "outcome" $outcome) (param "own-ms" u32) (param "count" u32)
    (result $decision)
    (canon lift (core func $guest "after") (memory $memory)))
  (instance $delay (export "decision" (type $decision)) (export "after" (func $after)))
  (export "fusebox:policy/delay@0.1.0" (instance $delay))
"#;

/// Lifts the key of the core instance `$guest` and exports it.
pub const KEY: &str = r#"
  (func $key (result (option string))
    (canon lift (core func $guest "key") (memory $memory) (realloc (core func $realloc))))
  (instance $key (export "key" (func $key)))
  (export "fusebox:policy/key@0.1.0" (instance $key))
"#;

/// Imports of stderr and the core functions `$get-stderr` and `$write`.
pub const STDERR: &str = r#"
  (import "wasi:io/error@0.2.3" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $error))
  (import "wasi:io/streams@0.2.3" (instance $streams
    (alias outer 1 $error (type $error')) (export "error" (type $error (eq $error')))
    (type $stream-error' (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $stream-error')))
    (export "output-stream" (type $output-stream (sub resource)))
    (export "[method]output-stream.blocking-write-and-flush" (func
      (param "self" (borrow $output-stream)) (param "contents" (list u8))
      (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $output-stream))
  (import "wasi:cli/stderr@0.2.3" (instance $stderr
    (alias outer 1 $output-stream (type $output-stream'))
    (export "output-stream" (type $output-stream (eq $output-stream')))
    (export "get-stderr" (func (result (own $output-stream))))))
  (core func $get-stderr (canon lower (func $stderr "get-stderr")))
  (core func $write (canon lower
    (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))
"#;

const WITH_STDERR: &str = r#"(with "wasi" (instance
  (export "stderr" (func $get-stderr)) (export "write" (func $write))))"#;

const ATTEMPT: &str = r#"
  (import "fusebox:policy/attempt@0.1.0" (instance $attempt
    (export "response-body" (func
      (param "offset" u32) (param "length" u32) (result (list u8)))) TRAILER))
  (core module $allocator
    (memory (export "memory") 4)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536)))
  (core instance $allocator (instantiate $allocator))
  (alias core export $allocator "memory" (core memory $memory))
  (alias core export $allocator "realloc" (core func $realloc))
"#;

/// The import of a guest that asks for trailers.
const TRAILER: &str = r#"(import "attempt" "response-trailer""#;
const TRAILER_TYPE: &str = r#"(export "response-trailer" (func
  (param "name" string) (result (option string))))"#;
const TRAILER_LOWERED: &str = r#"(core func $response-trailer (canon lower
  (func $attempt "response-trailer") (memory $memory) (realloc (core func $realloc))))"#;
const WITH_TRAILER: &str = r#"(export "response-trailer" (func $response-trailer))"#;

const HTTP: &str = r#"
  (import "wasi:http/types@0.2.3" (instance $http
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $http "incoming-request" (type $request))
  (alias export $http "response-outparam" (type $out))
"#;

const HANDLER: &str = r#"
  (func $handle (param "request" (own $request)) (param "response-out" (own $out))
    (canon lift (core func $guest "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.3" (instance $handler))
"#;

/// A predicate whose `handle-if` has this body: the outcome's case is in `$case` (0: a response, 1:
/// a failure), its status or the number of its failure in `$value`.
#[track_caller]
pub fn predicate(body: &str) -> Vec<u8> {
    wat_component(&handle_if(body))
}

/// The field for that.
pub fn handle_if(body: &str) -> String {
    function("handle-if", body)
}

/// The field for a `respond` with this body, which returns the address of an `option<response>`.
pub fn respond(body: &str) -> String {
    function("respond", body)
}

/// The field for an `after` with this body, which returns the address of a decision: what the
/// policy would wait is in `$own`, in milliseconds, and the number of the retry or opening in
/// `$count`.
pub fn after(body: &str) -> String {
    format!(
        r#"(func (export "after") (param $case i32) (param $value i32) (param $own i32)
          (param $count i32) (result i32) {body})"#
    )
}

/// The field for an `after` that waits for what `body` leaves, in milliseconds.
pub fn waits(body: &str) -> String {
    after(&format!(
        "(i32.store8 (i32.const 96) (i32.const 1)) (i32.store (i32.const 100) {body})
         (i32.const 96)"
    ))
}

/// The field for a `key` with this body, which returns the address of an `option<string>`.
pub fn key(body: &str) -> String {
    format!(r#"(func (export "key") (result i32) {body})"#)
}

fn function(name: &str, body: &str) -> String {
    format!(r#"(func (export "{name}") (param $case i32) (param $value i32) (result i32) {body})"#)
}

/// The fields of a fallback that answers this, which has no quotes.
pub fn responds(status: u16, text: &str) -> String {
    let length = text.len();
    let respond = respond(&format!(
        "(i32.store8 (i32.const 128) (i32.const 1))
         (i32.store16 (i32.const 132) (i32.const {status}))
         (i64.store (i32.const 136) (i64.const 0))
         (i32.store8 (i32.const 144) (i32.const 0))
         (i32.store (i32.const 148) (i32.const 1024))
         (i32.store (i32.const 152) (i32.const {length}))
         (i32.const 128)"
    ));
    format!(r#"(data (i32.const 1024) "{text}") {respond}"#)
}

/// A predicate whose `handle-if` finds the trailer of this name in `$trailer`: 0 if there is none,
/// else its first byte.
#[track_caller]
pub fn trailer_predicate(name: &str, body: &str) -> Vec<u8> {
    let length = name.len();
    let found = format!(
        "(local $trailer i32)
         (call $trailer (i32.const 1024) (i32.const {length}) (i32.const 1280))
         (if (i32.load8_u (i32.const 1280))
           (then (local.set $trailer (i32.load8_u (i32.load (i32.const 1284))))))"
    );
    let handle_if = handle_if(&format!("{found} {body}"));
    wat_component(&format!(
        r#"{TRAILER} (func $trailer (param i32 i32 i32)))
           (data (i32.const 1024) "{name}") {handle_if}"#
    ))
}

/// The body of a `handle-if` that takes this status alone.
pub fn is_status(status: u16) -> String {
    format!(
        "(i32.and (i32.eqz (local.get $case)) (i32.eq (local.get $value) (i32.const {status})))"
    )
}
