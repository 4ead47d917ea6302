//! Lines: which there are, and what is in them.

mod access_lines;
mod events;
mod writing;

use std::io;
use std::sync::Mutex;
use std::time::Duration;

use fusebox_resilience::testing::{call, call_with};
use fusebox_resilience::{
    AttemptEvent, AttemptOutcome, BodyEnd, BodyLimit, CircuitBreakerEvent, CircuitState,
    ComponentEvent, ComponentId, ConditionEvent, ErrorKind, FallbackEvent, Fault, GrpcStatus,
    HedgeEvent, KeysEvent, LateFailureCause, NoHedge, NoRetry, Observers, Provenance, QueueEvent,
    RequestBody, RetryEvent, Role, Slot, TimeoutEvent,
};
use serde_json::Value;

use super::*;
use crate::observe::line::MAX_TEXT;

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
        let policy = policy.map(Arc::from);
        log.observe(&Event {
            request,
            policy: policy.as_ref(),
            decided_by: None,
            provenance,
            endpoint: None,
            kind,
        })
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

fn finished(status: impl Into<Option<u16>>, failure: Option<ErrorKind>) -> EventKind {
    let (status, elapsed) = (status.into(), Duration::from_nanos(3_036_065_875));
    let end = status.map(|_| BodyEnd::Whole);
    EventKind::Call(CallEvent::Finished {
        status,
        failure,
        grpc: None,
        error: failure.map(ErrorKind::name),
        detail: None,
        attempts: 2,
        end,
        is_cut: false,
        bytes: 71,
        received: 0,
        elapsed,
    })
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
                endpoint: None,
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
