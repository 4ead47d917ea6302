//! Service B is busy: takes one status for a failure, and answers in its place.
//!
//! Settings: `busy-status` (default `503`) and `message` (default `error accessing service B`).

use std::sync::LazyLock;

use exports::fusebox::policy::{fallback, predicate};
use fusebox::policy::settings;
use fusebox::policy::types::{Content, Header, Outcome, Response};

wit_bindgen::generate!({ path: "../../wit", world: "policy" });

struct ServiceB;

export!(ServiceB);

/// Read once: settings don't change while an instance lives.
static BUSY_STATUS: LazyLock<u16> = LazyLock::new(|| match settings::get("busy-status") {
    None => 503,
    Some(text) => text
        .parse()
        .unwrap_or_else(|_| panic!("setting `busy-status`: expected a status, found `{text}`")),
});

impl predicate::Guest for ServiceB {
    fn handle_if(outcome: Outcome) -> bool {
        matches!(outcome, Outcome::Response(status) if status == *BUSY_STATUS)
    }
}

impl fallback::Guest for ServiceB {
    fn respond(_: Outcome) -> Option<Response> {
        let message =
            settings::get("message").unwrap_or_else(|| "error accessing service B".into());
        let message = serde_json::Value::from(message);
        Some(Response {
            status: 200,
            headers: vec![Header { name: "content-type".into(), value: "application/json".into() }],
            body: Content::Text(format!(r#"{{"message": {message}}}"#)),
        })
    }
}
