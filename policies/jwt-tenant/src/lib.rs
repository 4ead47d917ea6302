//! Tells calls apart by a claim of their token: a JWT in `Authorization: Bearer`.
//!
//! The setting `claim` names it, `sub` if it is left out. A call without a token, or whose token
//! does not have it as a text or a number, is nobody's.
//!
//! Signatures are not looked at: that is what the upstream does, or what is in front of this proxy.
//! Where nothing in front of it does, a client can say that it is another one, and use up what that
//! one may have.

use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use exports::fusebox::policy::key;
use fusebox::policy::{attempt, settings};
use serde_json::Value;

wit_bindgen::generate!({ path: "../../wit", world: "key-policy" });

struct JwtTenant;

export!(JwtTenant);

/// Read once: settings don't change while an instance lives.
static CLAIM: LazyLock<String> =
    LazyLock::new(|| settings::get("claim").unwrap_or_else(|| "sub".into()));

impl key::Guest for JwtTenant {
    fn key() -> Option<String> {
        let header = attempt::request_header("authorization")?;
        let (scheme, token) = header.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        claim(token.trim(), &CLAIM)
    }
}

/// A claim of a token. `None`: it is no JWT, or has none.
fn claim(token: &str, name: &str) -> Option<String> {
    let payload = token.split('.').nth(1)?;
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    match serde_json::from_slice::<Value>(&payload).ok()?.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
