//! Every line, field by field, and what becomes of lines that can't be written.

use std::io;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use fusebox_resilience::testing::{call, call_with};
use fusebox_resilience::{
    AttemptEvent, AttemptOutcome, BodyEnd, CircuitBreakerEvent, CircuitState, ComponentEvent,
    ComponentId, ConditionEvent, ErrorKind, FallbackEvent, Fault, NoRetry, Observers, Provenance,
    RequestBody, RetryEvent, Role, Slot, TimeoutEvent,
};
use serde_json::Value;

use super::*;
use crate::observe::line::{Days, MAX_TEXT, SinceEpoch, is_plain};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        text.lines().map(str::to_owned).collect()
    }
}

/// What is logged, without the times of the lines, which are checked for their shape.
fn logged(level: Level, access: bool, act: impl FnOnce(&Log)) -> Vec<String> {
    let sink = Sink::default();
    let (log, writer) = Log::start(sink.clone(), level, access);
    act(&log);
    drop(writer);
    sink.lines().iter().map(|line| without_time(line)).collect()
}

fn without_time(line: &str) -> String {
    let time = line.strip_prefix(r#"{"time":""#).and_then(|rest| rest.get(..27)).unwrap_or(line);
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000Z", "{line}");
    let _: Value = serde_json::from_str(line).unwrap();
    format!("{{{}", line.get(38..).unwrap_or(line))
}

fn line_of(request: Option<&Request>, policy: Option<&str>, kind: &EventKind) -> String {
    line_about(request, policy, None, kind)
}

fn line_about(
    request: Option<&Request>,
    policy: Option<&str>,
    provenance: Option<&Provenance>,
    kind: &EventKind,
) -> String {
    let mut lines = logged(Level::Debug, true, |log| {
        log.observe(&Event { request, policy, decided_by: None, provenance, kind })
    });
    assert_eq!(lines.len(), 1, "{kind:?}");
    lines.remove(0)
}

fn component() -> ComponentId {
    ComponentId { name: "service-b".into(), digest: "0a1b".into(), generation: 2 }
}

fn second(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn every_event_has_its_line() {
    let call = call("r-1", Observers::default());
    let attempt = |outcome| {
        EventKind::Attempt(AttemptEvent::Finished {
            attempt: 1,
            outcome,
            elapsed: Duration::from_micros(1500),
        })
    };
    let skipped = |reason| EventKind::Retry(RetryEvent::Skipped { reason });
    let of_policies = [
        (
            attempt(AttemptOutcome::Response(503)),
            r#"{"level":"DEBUG","msg":"Attempt 1: 503",HEAD,"elapsed_ms":1.5,"status":503}"#,
        ),
        (
            attempt(AttemptOutcome::Failure(ErrorKind::ConnectionRefused)),
            r#"{"level":"DEBUG","msg":"Attempt 1: connection refused",HEAD,"elapsed_ms":1.5,"failure":"connection_refused"}"#,
        ),
        (
            attempt(AttemptOutcome::Cancelled),
            r#"{"level":"DEBUG","msg":"Attempt 1: cancelled",HEAD,"elapsed_ms":1.5}"#,
        ),
        (
            EventKind::Retry(RetryEvent::Scheduled { retry: 1, delay: second(1) }),
            r#"{"level":"INFO","msg":"Retry 1 after delay of 1s",HEAD,"retry":1,"delay_ms":1000.0}"#,
        ),
        (
            EventKind::Retry(RetryEvent::Exhausted { retries: 2 }),
            r#"{"level":"WARN","msg":"Retries exceeded",HEAD,"retries":2}"#,
        ),
        (EventKind::Retry(RetryEvent::Aborted), r#"{"level":"INFO","msg":"Retry aborted",HEAD}"#),
        (
            skipped(NoRetry::Method),
            r#"{"level":"INFO","msg":"Not retried: the method is not idempotent",HEAD,"reason":"method"}"#,
        ),
        (
            skipped(NoRetry::Body),
            r#"{"level":"INFO","msg":"Not retried: the request body is too long to be kept",HEAD,"reason":"body"}"#,
        ),
        (
            skipped(NoRetry::RetryAfter),
            r#"{"level":"INFO","msg":"Not retried: the upstream asks for too long a wait",HEAD,"reason":"retry-after"}"#,
        ),
        (
            skipped(NoRetry::Upstream),
            r#"{"level":"INFO","msg":"Not retried: the upstream asks not to be asked again",HEAD,"reason":"upstream"}"#,
        ),
        (
            skipped(NoRetry::Retried),
            r#"{"level":"INFO","msg":"Not retried: another layer has retried it or turned it away",HEAD,"reason":"retried"}"#,
        ),
        (
            skipped(NoRetry::Deadline),
            r#"{"level":"INFO","msg":"Not retried: the wait would end past the deadline",HEAD,"reason":"deadline"}"#,
        ),
        (
            skipped(NoRetry::CircuitOpen),
            r#"{"level":"INFO","msg":"Not retried: the circuit breaker stays open for too long",HEAD,"reason":"circuit-open"}"#,
        ),
        (
            skipped(NoRetry::Budget),
            r#"{"level":"INFO","msg":"Not retried: the retry budget is spent",HEAD,"reason":"budget"}"#,
        ),
        (
            EventKind::Timeout(TimeoutEvent::Exceeded { limit: second(10) }),
            r#"{"level":"INFO","msg":"Connection timed out",HEAD,"limit_ms":10000.0}"#,
        ),
        (
            EventKind::CircuitBreaker(CircuitBreakerEvent::StateChanged {
                from: CircuitState::Closed,
                to: CircuitState::Open,
                delay: Some(second(60)),
            }),
            r#"{"level":"INFO","msg":"circuit breaker state changed from closed to open",HEAD,"from":"closed","to":"open","delay_ms":60000.0}"#,
        ),
        (
            EventKind::CircuitBreaker(CircuitBreakerEvent::StateChanged {
                from: CircuitState::Open,
                to: CircuitState::HalfOpen,
                delay: None,
            }),
            r#"{"level":"INFO","msg":"circuit breaker state changed from open to half-open",HEAD,"from":"open","to":"half-open"}"#,
        ),
        (
            EventKind::Call(CallEvent::Rejected {
                kind: ErrorKind::CircuitOpen,
                retry_after: Some(second(3)),
            }),
            r#"{"level":"INFO","msg":"Call rejected: circuit breaker open",HEAD,"reason":"circuit-open","retry_after_ms":3000.0}"#,
        ),
        (
            EventKind::Call(CallEvent::Rejected {
                kind: ErrorKind::BulkheadFull,
                retry_after: None,
            }),
            r#"{"level":"INFO","msg":"Call rejected: bulkhead full",HEAD,"reason":"bulkhead-full"}"#,
        ),
        (
            EventKind::Fallback(FallbackEvent::Served { status: 200, component: None }),
            r#"{"level":"INFO","msg":"Fallback executed result",HEAD,"status":200}"#,
        ),
        (
            EventKind::Fallback(FallbackEvent::Served {
                status: 200,
                component: Some(component()),
            }),
            r#"{"level":"INFO","msg":"Fallback executed result",HEAD,"status":200,"component":"service-b","digest":"0a1b","generation":2}"#,
        ),
        (
            EventKind::Fallback(FallbackEvent::Declined),
            r#"{"level":"INFO","msg":"Fallback declined",HEAD}"#,
        ),
        (
            EventKind::Call(CallEvent::ResponseIncomplete {
                kind: ErrorKind::ConnectionTerminated,
            }),
            r#"{"level":"WARN","msg":"Response incomplete: connection lost",HEAD,"failure":"connection_terminated"}"#,
        ),
        (
            EventKind::Component(ComponentEvent::Faulted {
                component: component(),
                fault: Fault::BadAnswer,
                detail: "status 0".into(),
            }),
            r#"{"level":"ERROR","msg":"Component faulted: bad-answer",HEAD,"component":"service-b","digest":"0a1b","generation":2,"fault":"bad-answer","detail":"status 0"}"#,
        ),
        (
            EventKind::Component(ComponentEvent::Printed {
                component: component(),
                line: "hello".into(),
            }),
            r#"{"level":"INFO","msg":"Component printed",HEAD,"component":"service-b","digest":"0a1b","generation":2,"line":"hello"}"#,
        ),
    ];
    for (kind, expected) in of_policies {
        let expected =
            expected.replace("HEAD", r#""request_id":"r-1","route":"test","policy":"p""#);
        assert_eq!(line_of(Some(call.request()), Some("p"), &kind), expected);
    }
}

#[test]
fn a_line_about_an_attempt_says_which_and_where() {
    let call = call("r-1", Observers::default());
    let mut scope =
        Provenance { attempt: 2, address: "10.0.0.7:80".parse().ok(), ..Provenance::default() };
    scope.role = Role::Retry(1);
    let of = |policy, kind: EventKind, expected: &str| {
        let head = r#""request_id":"r-1","route":"test""#;
        let expected = expected.replace("HEAD", head);
        assert_eq!(line_about(Some(call.request()), policy, Some(&scope), &kind), expected);
    };
    let elapsed = Duration::from_micros(1500);
    let outcome = AttemptOutcome::Response(503);
    of(
        None,
        AttemptEvent::Finished { attempt: 2, outcome, elapsed }.into(),
        r#"{"level":"DEBUG","msg":"Attempt 2: 503",HEAD,"attempt":2,"address":"10.0.0.7:80","run":0,"role":"retry","retry":1,"elapsed_ms":1.5,"status":503}"#,
    );
    let remaining = Some(second(2));
    of(
        None,
        AttemptEvent::Started { attempt: 2, endpoint: "http://b".into(), remaining }.into(),
        r#"{"level":"DEBUG","msg":"Attempt 2 started",HEAD,"attempt":2,"address":"10.0.0.7:80","run":0,"role":"retry","retry":1,"endpoint":"http://b","remaining_ms":2000.0}"#,
    );
    of(
        Some("retry"),
        RetryEvent::Aborted.into(),
        r#"{"level":"INFO","msg":"Retry aborted",HEAD,"policy":"retry","attempt":2,"address":"10.0.0.7:80"}"#,
    );
    let asked = |component: Option<&str>, handled| ConditionEvent::Asked {
        slot: Slot::HandleIf,
        component: component.map(Into::into),
        handled,
    };
    of(
        Some("retry"),
        asked(None, false).into(),
        r#"{"level":"DEBUG","msg":"Condition handle-if: no",HEAD,"policy":"retry","attempt":2,"address":"10.0.0.7:80","slot":"handle-if","handled":false}"#,
    );
    of(
        Some("retry"),
        asked(Some("b"), true).into(),
        r#"{"level":"DEBUG","msg":"Condition handle-if: yes",HEAD,"policy":"retry","attempt":2,"address":"10.0.0.7:80","slot":"handle-if","component":"b","handled":true}"#,
    );
    let access = |status| {
        let line = line_about(Some(call.request()), None, Some(&scope), &finished(status, None));
        line.split_once(r#","attempts":2"#).unwrap().1.to_owned()
    };
    assert_eq!(access(502), r#","attempt":2,"address":"10.0.0.7:80"}"#);
    assert_eq!(access(200), "}");
}

#[test]
fn what_concerns_no_call_has_a_line_without_one() {
    let replaced = ComponentId { digest: "ffff".into(), generation: 1, ..component() };
    let cases = [
        (
            EventKind::Component(ComponentEvent::Loaded { component: component(), replaced: None }),
            r#"{"level":"INFO","msg":"Component loaded","component":"service-b","digest":"0a1b","generation":2}"#,
        ),
        (
            EventKind::Component(ComponentEvent::Loaded {
                component: component(),
                replaced: Some(replaced.clone()),
            }),
            r#"{"level":"INFO","msg":"Component replaced","component":"service-b","digest":"0a1b","generation":2,"replaced_digest":"ffff","replaced_generation":1}"#,
        ),
        (
            EventKind::Component(ComponentEvent::Rejected {
                name: "service-b".into(),
                digest: None,
                reason: "no export".into(),
            }),
            r#"{"level":"ERROR","msg":"Component rejected","component":"service-b","reason":"no export"}"#,
        ),
        (
            EventKind::Component(ComponentEvent::Rejected {
                name: "service-b".into(),
                digest: Some("ffff".into()),
                reason: "no export".into(),
            }),
            r#"{"level":"ERROR","msg":"Component rejected","component":"service-b","rejected_digest":"ffff","reason":"no export"}"#,
        ),
        (
            EventKind::Component(ComponentEvent::RolledBack {
                component: component(),
                from: replaced.clone(),
                faults: Some(4),
            }),
            r#"{"level":"WARN","msg":"Component rolled back","component":"service-b","digest":"0a1b","generation":2,"from_digest":"ffff","from_generation":1,"faults":4}"#,
        ),
        (
            EventKind::Component(ComponentEvent::RolledBack {
                component: component(),
                from: replaced.clone(),
                faults: None,
            }),
            r#"{"level":"WARN","msg":"Component rolled back","component":"service-b","digest":"0a1b","generation":2,"from_digest":"ffff","from_generation":1}"#,
        ),
        (
            EventKind::Component(ComponentEvent::Quarantined {
                component: component(),
                faults: 20,
                interval: Duration::from_secs(5),
            }),
            r#"{"level":"ERROR","msg":"Component quarantined","component":"service-b","digest":"0a1b","generation":2,"faults":20,"interval_ms":5000.0}"#,
        ),
        (
            EventKind::Component(ComponentEvent::Released { component: component() }),
            r#"{"level":"INFO","msg":"Component released","component":"service-b","digest":"0a1b","generation":2}"#,
        ),
    ];
    for (kind, expected) in cases {
        assert_eq!(line_of(None, None, &kind), expected);
    }
}

fn finished(status: impl Into<Option<u16>>, failure: Option<ErrorKind>) -> EventKind {
    let (status, elapsed) = (status.into(), Duration::from_nanos(3_036_065_875));
    let end = status.map(|_| BodyEnd::Whole);
    EventKind::Call(CallEvent::Finished {
        status,
        failure,
        detail: None,
        attempts: 2,
        end,
        bytes: 71,
        elapsed,
    })
}

#[test]
fn the_access_line_has_request_and_response() {
    let request = http::Request::post("http://127.0.0.1:3001/orders?id=7")
        .header("host", "shop.example:8080")
        .header("referer", "https://shop.example/")
        .header("user-agent", "curl/8.9")
        .header("content-length", "312");
    let (head, ()) = request.body(()).unwrap().into_parts();
    let id = http::HeaderValue::from_static("r-1");
    let request =
        Request::new(id, "test".into(), head, UNIX_EPOCH).with_client("2001:db8::1".into());
    assert_eq!(
        line_of(Some(&request), None, &finished(200, None)),
        concat!(
            r#"{"level":"INFO","msg":"200: OK","request_id":"r-1","route":"test","#,
            r#""request":{"time":"1970-01-01T00:00:00.000000Z","method":"POST","host":"shop.example:8080","#,
            r#""path":"/orders","query":"id=7","route":"test","ip":"2001:db8::1","referer":"https://shop.example/","#,
            r#""user_agent":"curl/8.9","length":312},"#,
            r#""response":{"time":"1970-01-01T00:00:03.036065Z","latency":3036065875,"status":200,"length":71,"end":"whole"},"#,
            r#""attempts":2}"#
        )
    );
}

#[test]
fn an_access_line_says_how_the_call_ended() {
    let call = call("r-1", Observers::default());
    let plain = |level: &str, message: &str, status: &str, rest: &str| {
        format!(
            r#"{{"level":"{level}","msg":"{message}","request_id":"r-1","route":"test","request":{{"time":"1970-01-01T00:00:00.000000Z","method":"GET","host":"service-b","path":"/","query":"","route":"test","ip":"","referer":"","user_agent":"","length":0}},"response":{{"time":"1970-01-01T00:00:03.036065Z","latency":3036065875,{status}}},"attempts":2{rest}}}"#
        )
    };
    let cases = [
        (
            finished(404, None),
            plain("WARN", "404: Not Found", r#""status":404,"length":71,"end":"whole""#, ""),
        ),
        (
            finished(503, None),
            plain(
                "ERROR",
                "503: Service Unavailable",
                r#""status":503,"length":71,"end":"whole""#,
                "",
            ),
        ),
        (
            finished(504, Some(ErrorKind::Timeout)),
            plain(
                "ERROR",
                "504: Gateway Timeout",
                r#""status":504,"length":71,"end":"whole""#,
                r#","failure":"http_response_timeout""#,
            ),
        ),
        (
            finished(299, None),
            plain("INFO", "299", r#""status":299,"length":71,"end":"whole""#, ""),
        ),
        (finished(None, None), plain("INFO", "client closed request", r#""length":71"#, "")),
        (
            finished(None, Some(ErrorKind::RequestIncomplete)),
            plain(
                "INFO",
                "client closed request",
                r#""length":71"#,
                r#","failure":"http_request_error""#,
            ),
        ),
    ];
    for (kind, expected) in cases {
        assert_eq!(line_of(Some(call.request()), None, &kind), expected);
    }
}

#[test]
fn levels_and_the_switch_for_access_lines_hold() {
    let call = call("r-1", Observers::default());
    let all = |log: &Log| {
        let attempt = EventKind::Attempt(AttemptEvent::Finished {
            attempt: 1,
            outcome: AttemptOutcome::Cancelled,
            elapsed: Duration::ZERO,
        });
        for kind in [
            attempt,
            EventKind::Retry(RetryEvent::Aborted),
            finished(200, None),
            finished(500, None),
        ] {
            log.observe(&Event {
                request: Some(call.request()),
                policy: None,
                decided_by: None,
                provenance: None,
                kind: &kind,
            });
        }
    };
    assert_eq!(logged(Level::Debug, true, all).len(), 4);
    assert_eq!(logged(Level::Info, true, all).len(), 3);
    assert_eq!(logged(Level::Info, false, all).len(), 1);
    assert_eq!(logged(Level::Error, true, all).len(), 1);
}

#[test]
fn the_program_has_lines_of_its_own() {
    let lines = logged(Level::Info, true, |log| {
        log.line(Level::Info, "listening", |line| {
            line.field("address", "127.0.0.1:3002")
                .maybe("workers", Some(2))
                .maybe("nothing", None::<u8>);
        });
        log.line(Level::Debug, "not said", |_| panic!("not asked either"));
        log.line(Level::Warn, "a \"quoted\"\nmessage", |_| {});
    });
    assert_eq!(
        lines,
        [
            r#"{"level":"INFO","msg":"listening","address":"127.0.0.1:3002","workers":2}"#,
            r#"{"level":"WARN","msg":"a \"quoted\"\nmessage"}"#
        ]
    );
}

#[test]
fn a_value_that_cannot_be_written_costs_only_itself() {
    let no_json = std::collections::HashMap::from([(vec![1], 1)]);
    let lines = logged(Level::Info, true, |log| {
        log.line(Level::Info, "odd", |line| {
            line.field("value", no_json).field("next", 1);
        });
    });
    assert_eq!(lines, [r#"{"level":"INFO","msg":"odd","value":null,"next":1}"#]);
}

#[test]
fn a_value_that_logs_while_it_is_written_spoils_no_line() {
    let lines = logged(Level::Info, true, |log| {
        log.line(Level::Info, "outer", |line| {
            log.line(Level::Info, "inner", |_| {});
            line.field("value", 1);
        });
    });
    assert_eq!(
        lines,
        [r#"{"level":"INFO","msg":"inner"}"#, r#"{"level":"INFO","msg":"outer","value":1}"#]
    );
}

#[test]
fn hostile_bytes_stay_within_their_string() {
    // All that a header may carry; `http` refuses the rest.
    let header: Vec<u8> = (0x20..=0xff).filter(|byte| *byte != 0x7f).chain([b'\t']).collect();
    let request = http::Request::get("/a%00\"b{},?q=\\,:{}")
        .header("user-agent", http::HeaderValue::from_bytes(&header).unwrap())
        .header("referer", http::HeaderValue::from_bytes(b"\xff\xfe\",\"msg\":\"forged").unwrap())
        .header("host", "\"")
        .header("content-length", "-1");
    let call = call_with("r-1", request, RequestBody::empty(), Observers::default());
    let line: Value =
        serde_json::from_str(&line_of(Some(call.request()), None, &finished(200, None))).unwrap();
    assert_eq!(line["msg"], "200: OK");
    assert_eq!(line["level"], "INFO");
    let request = &line["request"];
    assert_eq!(request["path"], "/a%00\"b{},");
    assert_eq!(request["query"], "q=\\,:{}");
    assert_eq!(request["host"], "\"");
    assert_eq!(request["length"], 0);
    assert_eq!(request["referer"], "\u{fffd}\u{fffd}\",\"msg\":\"forged");
    assert!(request["user_agent"].as_str().unwrap().starts_with(" !\"#$%&'"));

    let printed: String = (0..=0x2fff_u32).filter_map(char::from_u32).take(1000).collect();
    let kind = EventKind::Component(ComponentEvent::Printed {
        component: component(),
        line: printed.as_str().into(),
    });
    let line: Value = serde_json::from_str(&line_of(None, None, &kind)).unwrap();
    assert_eq!(line["line"], printed);
}

/// U+009B is what begins a command to many terminals.
#[test]
fn no_control_character_reaches_a_terminal() {
    let hostile = "a\u{1b}[2J\u{7f}\u{85}\u{9b}31m\u{a0}\u{fc}";
    let escaped = r"a\u001b[2J\u007f\u0085\u009b31m";
    let component = component();
    let printed = ComponentEvent::Printed { component: component.clone(), line: hostile.into() };
    let case: Arc<str> = serde_json::to_string(hostile).unwrap().into();
    let captured = ComponentEvent::Captured { component, case };
    for (key, kind) in [("line", printed), ("case", captured)] {
        let line = line_of(None, None, &kind.into());
        assert!(line.contains(&format!("\"{key}\":\"{escaped}")), "{line}");
        assert!(!line.chars().any(|char| char.is_control() && char != '\n'), "{line:?}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()[key], hostile);
    }
    let agent = http::HeaderValue::from_bytes("\u{85}\u{9b}m".as_bytes()).unwrap();
    let agent = http::Request::get("/").header("user-agent", agent);
    let call = call_with("r-1", agent, RequestBody::empty(), Observers::default());
    let line = line_of(Some(call.request()), None, &finished(200, None));
    assert!(line.contains(r#""user_agent":"\u0085\u009bm""#), "{line}");
    let lines = logged(Level::Info, true, |log| {
        log.line(Level::Info, "can't accept: \u{9b}", |line| {
            line.field("limit", "\u{9b}");
        });
    });
    assert!(lines[0].contains(r#""msg":"can't accept: \u009b","limit":"\u009b""#), "{lines:?}");
}

#[test]
fn a_byte_that_needs_an_escape_is_found_wherever_it_is() {
    for length in 1..=20 {
        for place in 0..length {
            for byte in 0..=u8::MAX {
                let mut text = vec![b'x'; length];
                text[place] = byte;
                let is_odd = !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\');
                assert_eq!(is_plain(&text), !is_odd, "{byte:#x} at {place} of {length}");
            }
        }
    }
    assert!(is_plain(b""));
}

#[test]
fn a_long_text_is_cut() {
    for (length, expected) in [(MAX_TEXT, MAX_TEXT), (MAX_TEXT + 1, MAX_TEXT + "…".len())] {
        let detail = "x".repeat(length).into();
        let kind = EventKind::Component(ComponentEvent::Faulted {
            component: component(),
            fault: Fault::Trap,
            detail,
        });
        let line: Value = serde_json::from_str(&line_of(None, None, &kind)).unwrap();
        assert_eq!(line["detail"].as_str().unwrap().len(), expected);
    }
}

#[test]
fn times_are_utc_with_microseconds() {
    let mut days = Days::default();
    let mut format = |time| {
        let mut buffer = Vec::new();
        days.write(SinceEpoch::of(time), &mut buffer);
        String::from_utf8(buffer).unwrap()
    };
    let at = |seconds, nanoseconds| UNIX_EPOCH + Duration::new(seconds, nanoseconds);
    assert_eq!(format(at(0, 0)), r#""1970-01-01T00:00:00.000000Z""#);
    assert_eq!(format(at(0, 999_999_999)), r#""1970-01-01T00:00:00.999999Z""#);
    assert_eq!(format(at(1_724_153_856, 852_886_000)), r#""2024-08-20T11:37:36.852886Z""#);
    assert_eq!(format(at(951_782_400, 1_000)), r#""2000-02-29T00:00:00.000001Z""#);
    assert_eq!(format(UNIX_EPOCH - second(5)), r#""1970-01-01T00:00:00.000000Z""#);
    assert_eq!(format(at(u64::MAX >> 2, 0)), r#""9999-12-30T22:00:00.000000Z""#);
}

/// Says when it is written to, and waits for leave.
struct Gate {
    entered: Sender<()>,
    leave: Receiver<io::Result<()>>,
    sink: Sink,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.entered.send(());
        // Without anybody to give it there is leave for everything.
        self.leave.recv().unwrap_or(Ok(()))?;
        self.sink.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gate() -> (Gate, Receiver<()>, Sender<io::Result<()>>, Sink) {
    let ((entered, has_entered), (give, leave), sink) = (channel(), channel(), Sink::default());
    (Gate { entered, leave, sink: sink.clone() }, has_entered, give, sink)
}

#[test]
fn lines_that_find_no_room_are_dropped_and_counted() {
    let (gate, has_entered, give, sink) = gate();
    let (log, writer) = Log::start_with(gate, Level::Info, true, 1000);
    log.line(Level::Info, "first", |_| {});
    has_entered.recv().unwrap();
    for _ in 0..100 {
        log.line(Level::Info, "more", |_| {});
    }
    let dropped = log.dropped();
    assert!((80..100).contains(&dropped), "{dropped}");
    drop(give);
    drop(writer);
    let lines: Vec<String> = sink.lines().iter().map(|line| without_time(line)).collect();
    assert_eq!(lines.len() as u64, 1 + (100 - dropped) + 1);
    assert_eq!(
        lines.last().map(String::as_str),
        Some(format!(
            r#"{{"level":"WARN","msg":"{dropped} log lines dropped","dropped":{dropped}}}"#
        ))
        .as_deref()
    );
    assert_eq!(log.dropped(), dropped);
}

#[test]
fn lines_that_the_output_refuses_are_counted_too() {
    let (gate, has_entered, give, sink) = gate();
    let (log, writer) = Log::start(gate, Level::Info, true);
    log.line(Level::Info, "lost", |_| {});
    has_entered.recv().unwrap();
    give.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
    while log.dropped() == 0 {
        thread::yield_now();
    }
    log.line(Level::Info, "written", |_| {});
    drop(give);
    drop(writer);
    let lines: Vec<String> = sink.lines().iter().map(|line| without_time(line)).collect();
    assert_eq!(
        lines,
        [
            r#"{"level":"INFO","msg":"written"}"#,
            r#"{"level":"WARN","msg":"1 log lines dropped","dropped":1}"#
        ]
    );
}

#[test]
fn a_line_goes_out_without_another_behind_it() {
    let (gate, has_entered, give, sink) = gate();
    drop(give);
    let (log, writer) = Log::start(gate, Level::Info, true);
    for count in 1..=3 {
        log.line(Level::Info, "alone", |_| {});
        has_entered.recv_timeout(second(30)).unwrap();
        while sink.lines().len() < count {
            thread::yield_now();
        }
    }
    drop(writer);
}

#[test]
fn the_end_writes_everything_and_then_nothing() {
    let sink = Sink::default();
    let (log, writer) = Log::start(sink.clone(), Level::Info, true);
    for _ in 0..1000 {
        log.line(Level::Info, "one", |_| {});
    }
    drop(writer);
    assert_eq!(sink.lines().len(), 1000);
    log.line(Level::Info, "late", |_| {});
    assert_eq!(sink.lines().len(), 1000);
    assert_eq!(log.dropped(), 1);
}

#[test]
fn lines_of_many_threads_stay_whole_and_in_order() {
    let sink = Sink::default();
    let (log, writer) = Log::start(sink.clone(), Level::Info, true);
    thread::scope(|scope| {
        for thread in 0..8_usize {
            let log = &log;
            scope.spawn(move || {
                for number in 0..500 {
                    log.line(Level::Info, "counting", |line| {
                        line.field("thread", thread).field("number", number);
                    });
                }
            });
        }
    });
    drop(writer);
    let mut next = [0; 8];
    for line in sink.lines() {
        let line: Value = serde_json::from_str(&line).unwrap();
        let thread = usize::try_from(line["thread"].as_u64().unwrap()).unwrap();
        assert_eq!(line["number"], next[thread]);
        next[thread] += 1;
    }
    assert_eq!(next, [500; 8]);
}
