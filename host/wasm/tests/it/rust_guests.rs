//! The guests in `policies/`, as `make policies` builds them.

use fusebox_resilience::config::ConfigSize;
use fusebox_resilience::{ErrorKind, Fault};
use http::{HeaderMap, HeaderValue, header};

use crate::support::{Seen, Tested, body, built, load, load_with};

#[tokio::test(flavor = "current_thread")]
async fn service_b_takes_503_for_a_failure() {
    let tested = load(&built("service_b.wasm"));
    assert_eq!([503, 500, 200].map(|status| tested.handles(status)), [true, false, false]);
    assert!(!tested.handles(ErrorKind::Timeout));
    assert_eq!(tested.faults(), []);
}

#[test]
fn service_b_answers_with_a_message() {
    let tested = load(&built("service_b.wasm"));
    let response = tested.responds(503).expect("it answers");
    assert_eq!((response.status.as_u16(), response.headers.len()), (200, 1));
    assert_eq!(response.headers.to_map()[header::CONTENT_TYPE], "application/json");
    assert_eq!(body(response), r#"{"message": "error accessing service B"}"#);
}

#[test]
fn service_b_reads_its_settings() {
    let tested = load_with(&built("service_b.wasm"), |config| {
        config.settings.insert("busy-status".into(), "429".into());
        config.settings.insert("message".into(), "\"busy\"\n".into());
    });
    assert_eq!([429, 503].map(|status| tested.handles(status)), [true, false]);
    assert_eq!(tested.tells(503), r#"{"message": "\"busy\"\n"}"#);
}

/// Inside a runtime, where a panic that prints would panic the host with wasmtime-wasi's own
/// console. (The Debian route builds guests that have no stderr to print it on.)
#[tokio::test(flavor = "current_thread")]
async fn a_rust_panic_is_a_trap_with_its_message() {
    let bytes = built("service_b.wasm");
    let has_stderr = bytes.windows(15).any(|window| window == b"wasi:cli/stderr");
    let tested = load_with(&bytes, |config| {
        config.settings.insert("busy-status".into(), "busy".into());
    });
    assert!(tested.handles(503), "the default answer");
    let [(Fault::Trap, detail)] = &tested.faulted()[..] else { panic!("{:?}", tested.faulted()) };
    assert_eq!(
        detail.contains("setting `busy-status`: expected a status, found `busy`"),
        has_stderr,
        "{detail}"
    );
}

fn graphql() -> Tested {
    load_with(&built("graphql_errors.wasm"), |config| config.peek_body = Some(ConfigSize::kib(1)))
}

fn json(status: u16, body: &'static str) -> Seen {
    let kind = HeaderValue::from_static("application/graphql-response+json; charset=utf-8");
    Seen::response(status, HeaderMap::from_iter([(header::CONTENT_TYPE, kind)]), body)
}

#[test]
fn graphql_errors_looks_into_the_body_of_a_200() {
    let tested = graphql();
    assert!(tested.handles(json(200, r#"{"errors": [{"message": "no"}], "data": null}"#)));
    assert!(!tested.handles(json(200, r#"{"data": {"errors": ["mine"]}, "errors": []}"#)));
    assert!(
        !tested.handles(Seen::response(200, HeaderMap::new(), r#"{"errors": [1]}"#)),
        "not declared as json"
    );
    assert!(!tested.handles(json(404, r#"{"errors": [1]}"#)));
    assert!(tested.handles(502));
    assert!(tested.handles(ErrorKind::ConnectionRefused));
    assert_eq!(tested.faults(), []);
}

#[test]
fn a_rust_guest_answers_200_000_calls_on_one_instance() {
    let tested = graphql();
    let asked = tested.predicate();
    let seen = json(200, r#"{"data": {"hello": "world"}, "errors": [{"message": "no"}]}"#);
    let handled = seen.asked(&tested.recorder, fusebox_resilience::Slot::HandleIf, |seen| {
        (0..200_000).filter(|_| asked.judge(seen).is_handled()).count()
    });
    assert_eq!(handled, 200_000);
    assert_eq!(tested.faults(), []);
    assert_eq!(tested.components.status()[0].instances, 1);
}
