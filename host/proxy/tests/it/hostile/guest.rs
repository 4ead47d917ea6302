//! Guests as text, with everything at hand that a hostile one may want.
//!
//! Their module finds a memory of four pages that may grow, in which `realloc` gives out what lies
//! from 64 KiB up and takes all of it back at each `reset`, and all of [`FUNCTIONS`] imported under
//! the names there. It has no data but its own.

use fusebox_dev::{TYPES, encode};

/// A guest that exports both the predicate and the fallback.
pub(super) struct Guest {
    fields: String,
    handle_if: String,
    respond: String,
    realloc: String,
    post_return: Option<String>,
}

/// Answers `none` to `respond`.
const DECLINES: &str = "(i32.store8 (i32.const 128) (i32.const 0)) (i32.const 128)";

/// A bump allocator that makes the memory grow.
const REALLOC: &str = "(local $start i32)
    (local.set $start (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.set $next (i32.add (local.get $start) (local.get 3)))
    (block $enough (loop $more
      (br_if $enough (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
      (br_if $enough (i32.eq (memory.grow (i32.const 16)) (i32.const -1)))
      (br $more)))
    (local.get $start)";

/// The lowered functions: the name that guests use, its type, what it lowers, and whether the host
/// writes through `realloc`.
const FUNCTIONS: [(&str, &str, &str, bool); 19] = [
    ("request-header", "(param i32 i32 i32)", r#"$attempt "request-header""#, true),
    ("request-headers", "(param i32)", r#"$attempt "request-headers""#, true),
    ("response-body", "(param i32 i32 i32)", r#"$attempt "response-body""#, true),
    ("response-body-text", "(param i32)", r#"$attempt "response-body-text""#, true),
    ("stderr", "(result i32)", r#"$stderr "get-stderr""#, false),
    ("stdin", "(result i32)", r#"$stdin "get-stdin""#, false),
    ("write", "(param i32 i32 i32 i32)", r#"$streams "[method]output-stream.write""#, false),
    (
        "write-zeroes",
        "(param i32 i64 i32)",
        r#"$streams "[method]output-stream.write-zeroes""#,
        false,
    ),
    (
        "print",
        "(param i32 i32 i32 i32)",
        r#"$streams "[method]output-stream.blocking-write-and-flush""#,
        false,
    ),
    ("read", "(param i32 i64 i32)", r#"$streams "[method]input-stream.blocking-read""#, true),
    ("after", "(param i64) (result i32)", r#"$clock "subscribe-duration""#, false),
    ("now", "(result i64)", r#"$clock "now""#, false),
    ("block", "(param i32)", r#"$poll "[method]pollable.block""#, false),
    ("poll", "(param i32 i32 i32)", r#"$poll "poll""#, true),
    ("exit", "(param i32)", r#"$exit "exit""#, false),
    ("random", "(param i64 i32)", r#"$random "get-random-bytes""#, true),
    ("tcp", "(param i32 i32)", r#"$create-tcp "create-tcp-socket""#, false),
    ("udp", "(param i32 i32)", r#"$create-udp "create-udp-socket""#, false),
    ("directories", "(param i32)", r#"$preopens "get-directories""#, true),
];

impl Guest {
    /// Does this whatever it is asked, and says yes or declines if it gets so far.
    pub(super) fn doing(body: &str) -> Self {
        Self {
            fields: String::new(),
            handle_if: format!("{body} (i32.const 1)"),
            respond: format!("{body} {DECLINES}"),
            realloc: REALLOC.to_owned(),
            post_return: None,
        }
    }

    /// Leaves everything alone, until this response is asked for: the address of an
    /// `option<response>`.
    pub(super) fn answering(respond: &str) -> Self {
        Self { respond: respond.to_owned(), ..Self::doing("") }
    }

    /// With more fields in its module.
    pub(super) fn with(self, fields: &str) -> Self {
        Self { fields: format!("{} {fields}", self.fields), ..self }
    }

    /// Starts with this.
    pub(super) fn starting(self, body: &str) -> Self {
        self.with(&format!("(func $start {body}) (start $start)"))
    }

    /// Allocates in this way what the host gives it.
    pub(super) fn allocating(self, realloc: &str) -> Self {
        Self { realloc: realloc.to_owned(), ..self }
    }

    /// Does this after its answer was read.
    pub(super) fn afterwards(self, body: &str) -> Self {
        Self { post_return: Some(body.to_owned()), ..self }
    }

    #[track_caller]
    pub(super) fn component(&self) -> Vec<u8> {
        encode(&self.text())
    }

    fn text(&self) -> String {
        let Self { fields, handle_if, respond, realloc, post_return } = self;
        let (mut lowered, mut given, mut imports) = (String::new(), String::new(), String::new());
        for (name, kind, function, allocates) in FUNCTIONS {
            let realloc = if allocates { "(realloc (core func $realloc))" } else { "" };
            lowered += &format!(
                "(core func ${name} (canon lower (func {function}) (memory $memory) {realloc}))\n"
            );
            given += &format!(r#"(export "{name}" (func ${name}))"#);
            imports += &format!(r#"(import "host" "{name}" (func ${name} {kind}))"#);
        }
        let after = |function: &str| match post_return {
            Some(body) => format!(r#"(func (export "{function}-after") (param i32) {body})"#),
            None => String::new(),
        };
        let (after_handle_if, after_respond) = (after("handle-if"), after("respond"));
        let option = |function: &str| match post_return {
            Some(_) => format!(r#"(post-return (core func $guest "{function}-after"))"#),
            None => String::new(),
        };
        let (handle_if_option, respond_option) = (option("handle-if"), option("respond"));
        format!(
            r#"(component {TYPES} {INTERFACES}
              (core func $number (canon lower (func $attempt "number")))
              (core module $allocator
                (import "host" "number" (func $number (result i32)))
                (memory (export "memory") 4)
                (global $next (mut i32) (i32.const 65536))
                (func (export "reset") (global.set $next (i32.const 65536)))
                (func $realloc (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc}))
              (core instance $allocator (instantiate $allocator
                (with "host" (instance (export "number" (func $number))))))
              (alias core export $allocator "memory" (core memory $memory))
              (alias core export $allocator "realloc" (core func $realloc))
              {lowered}
              (type $own (resource (rep i32)))
              (core func $own (canon resource.new $own))
              (core module $guest
                (import "allocator" "memory" (memory 4))
                (import "allocator" "reset" (func $reset))
                (import "host" "number" (func $number (result i32)))
                (import "host" "own" (func $own (param i32) (result i32)))
                {imports} {fields} {after_handle_if} {after_respond}
                (func (export "handle-if") (param $case i32) (param $value i32)
                  (result i32) {handle_if})
                (func (export "respond") (param $case i32) (param $value i32)
                  (result i32) {respond}))
              (core instance $guest (instantiate $guest
                (with "allocator" (instance $allocator))
                (with "host"
                  (instance (export "number" (func $number)) (export "own" (func $own)) {given}))))
              (func $handle-if (param "outcome" $outcome) (result bool)
                (canon lift (core func $guest "handle-if") {handle_if_option}))
              (instance $predicate (export "handle-if" (func $handle-if)))
              (export "fusebox:policy/predicate@0.1.0" (instance $predicate))
              (func $respond (param "outcome" $outcome) (result (option $response))
                (canon lift (core func $guest "respond") (memory $memory)
                  (realloc (core func $realloc)) {respond_option}))
              (instance $fallback (export "respond" (func $respond)))
              (export "fusebox:policy/fallback@0.1.0" (instance $fallback)))"#
        )
    }
}

/// What they import beside the types of the contract: its functions, and WASI as far as it is
/// interesting.
const INTERFACES: &str = r#"
  (import "fusebox:policy/attempt@0.1.0" (instance $attempt
    (alias outer 1 $header (type $header')) (export "header" (type $header (eq $header')))
    (export "number" (func (result u32)))
    (export "request-header" (func (param "name" string) (result (option string))))
    (export "request-headers" (func (result (list $header))))
    (export "response-body" (func (param "offset" u32) (param "length" u32) (result (list u8))))
    (export "response-body-text" (func (result (option string))))))
  (import "wasi:io/error@0.2.3" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $error))
  (import "wasi:io/poll@0.2.3" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))
    (export "poll" (func (param "in" (list (borrow $pollable))) (result (list u32))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:io/streams@0.2.3" (instance $streams
    (alias outer 1 $error (type $error')) (export "error" (type $error (eq $error')))
    (type $stream-error' (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $stream-error')))
    (export "input-stream" (type $input-stream (sub resource)))
    (export "output-stream" (type $output-stream (sub resource)))
    (export "[method]input-stream.blocking-read" (func (param "self" (borrow $input-stream))
      (param "len" u64) (result (result (list u8) (error $stream-error)))))
    (export "[method]output-stream.write" (func (param "self" (borrow $output-stream))
      (param "contents" (list u8)) (result (result (error $stream-error)))))
    (export "[method]output-stream.write-zeroes" (func (param "self" (borrow $output-stream))
      (param "len" u64) (result (result (error $stream-error)))))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $output-stream))
      (param "contents" (list u8)) (result (result (error $stream-error)))))))
  (alias export $streams "input-stream" (type $input-stream))
  (alias export $streams "output-stream" (type $output-stream))
  (import "wasi:cli/stderr@0.2.3" (instance $stderr
    (alias outer 1 $output-stream (type $output-stream'))
    (export "output-stream" (type $output-stream (eq $output-stream')))
    (export "get-stderr" (func (result (own $output-stream))))))
  (import "wasi:cli/stdin@0.2.3" (instance $stdin
    (alias outer 1 $input-stream (type $input-stream'))
    (export "input-stream" (type $input-stream (eq $input-stream')))
    (export "get-stdin" (func (result (own $input-stream))))))
  (import "wasi:cli/exit@0.2.3" (instance $exit (export "exit" (func (param "status" (result))))))
  (import "wasi:clocks/monotonic-clock@0.2.3" (instance $clock
    (alias outer 1 $pollable (type $pollable')) (export "pollable" (type $pollable (eq $pollable')))
    (export "now" (func (result u64)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
  (import "wasi:random/random@0.2.3" (instance $random
    (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
  (import "wasi:filesystem/types@0.2.3"
    (instance $files (export "descriptor" (type (sub resource)))))
  (alias export $files "descriptor" (type $descriptor))
  (import "wasi:filesystem/preopens@0.2.3" (instance $preopens
    (alias outer 1 $descriptor (type $descriptor'))
      (export "descriptor" (type $descriptor (eq $descriptor')))
    (export "get-directories" (func (result (list (tuple (own $descriptor) string)))))))
  (import "wasi:sockets/network@0.2.3" (instance $network
    (type $error-code'
      (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
      "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit"
      "address-not-bindable" "address-in-use" "remote-unreachable" "connection-refused"
      "connection-reset" "connection-aborted" "datagram-too-large" "name-unresolvable"
      "temporary-resolver-failure" "permanent-resolver-failure"))
    (export "error-code" (type $error-code (eq $error-code')))
    (type $family' (enum "ipv4" "ipv6")) (export "ip-address-family" (type $family (eq $family')))))
  (alias export $network "error-code" (type $error-code))
  (alias export $network "ip-address-family" (type $family))
  (import "wasi:sockets/tcp@0.2.3" (instance $tcps (export "tcp-socket" (type (sub resource)))))
  (alias export $tcps "tcp-socket" (type $tcp-socket))
  (import "wasi:sockets/udp@0.2.3" (instance $udps (export "udp-socket" (type (sub resource)))))
  (alias export $udps "udp-socket" (type $udp-socket))
  (import "wasi:sockets/tcp-create-socket@0.2.3" (instance $create-tcp
    (alias outer 1 $error-code (type $error-code'))
      (export "error-code" (type $error-code (eq $error-code')))
    (alias outer 1 $family (type $family'))
      (export "ip-address-family" (type $family (eq $family')))
    (alias outer 1 $tcp-socket (type $tcp-socket'))
      (export "tcp-socket" (type $tcp-socket (eq $tcp-socket')))
    (export "create-tcp-socket" (func (param "address-family" $family)
      (result (result (own $tcp-socket) (error $error-code)))))))
  (import "wasi:sockets/udp-create-socket@0.2.3" (instance $create-udp
    (alias outer 1 $error-code (type $error-code'))
      (export "error-code" (type $error-code (eq $error-code')))
    (alias outer 1 $family (type $family'))
      (export "ip-address-family" (type $family (eq $family')))
    (alias outer 1 $udp-socket (type $udp-socket'))
      (export "udp-socket" (type $udp-socket (eq $udp-socket')))
    (export "create-udp-socket" (func (param "address-family" $family)
      (result (result (own $udp-socket) (error $error-code)))))))
"#;
