//! A case made of what a component was asked in traffic, and said.

use fusebox_resilience::{AttemptOutcome, Response, Slot};
use http::{HeaderMap, HeaderValue, Version};

use super::case::{
    CasePast, CaseRequest, CaseResponse, ComponentCase, Expect, ExpectedResponse, Headers, Values,
    millis,
};
use crate::bindings::exports::fusebox::policy::delay::Decision;
use crate::convert::{protocol, text, text_of};
use crate::question::{Asks, GuestQuestion};

/// Replaces the value of a secret.
const REDACTED: &str = "(redacted)";

/// Names of query parameters and headers whose values are secrets, though longer names with these
/// words in them (`status-code`, `user-agent`) say nothing secret.
const SECRET_NAMES: [&str; 3] = ["code", "state", "user"];
/// Words in such names.
const SECRET_WORDS: [&str; 21] = [
    "assertion",
    "auth",
    "authorization",
    "bearer",
    "cert",
    "certificate",
    "cookie",
    "cookie2",
    "credential",
    "credentials",
    "csrf",
    "jwt",
    "key",
    "otp",
    "pass",
    "pwd",
    "session",
    "sid",
    "sig",
    "signature",
    "xsrf",
];
/// Parts of such names, anywhere in them.
const SECRET_PARTS: [&str; 10] = [
    "accesskey",
    "apikey",
    "credential",
    "passw",
    "password",
    "privatekey",
    "secret",
    "sessionid",
    "signature",
    "token",
];

/// Headers whose value is a URL.
const URLS: [&str; 4] = ["content-location", "location", "origin", "referer"];

/// The most of a body that is captured, in bytes.
const BODY: usize = 16 << 10;

/// What a component said.
pub(crate) enum Said<'a> {
    Handled(bool),
    Responded(Option<&'a Response>),
    Delay(Decision),
    Key(Option<&'a str>),
}

/// The case as JSON. Of the response's body it has what the component could see.
pub(crate) fn captured(seen: &GuestQuestion<'_>, peeked: usize, said: &Said<'_>) -> String {
    let head = seen.call.head();
    let mut case = ComponentCase {
        request: CaseRequest {
            method: head.method.to_string(),
            scheme: head.uri.scheme_str().map(str::to_owned),
            authority: head.uri.authority().map(ToString::to_string),
            protocol: (head.version != Version::HTTP_11).then(|| protocol(head.version).to_owned()),
            path: without_secrets(head.uri.path_and_query().map_or("/", |path| path.as_str())),
            headers: headers(
                &seen.call.headers().map(|(name, value)| (name.clone(), value.clone())).collect(),
            ),
        },
        attempt: seen.outcome().map(|_| seen.number()),
        endpoint: seen.address(),
        endpoint_protocol: seen
            .version()
            .filter(|version| *version == Version::HTTP_2)
            .map(|version| protocol(version).to_owned()),
        elapsed: Some(millis(seen.call.elapsed())),
        remaining: seen.remaining().map(millis),
        route: Some(seen.call.route().to_string()),
        policy: Some(seen.policy.to_string()),
        // Of the others `expect` tells.
        asked: Some(seen.slot())
            .filter(|slot| [Slot::AbortIf, Slot::CancelIf, Slot::IgnoreIf].contains(slot)),
        ..ComponentCase::default()
    };
    if let Asks::Delay { own, count, .. } = seen.asks {
        (case.own, case.count) = (Some(millis(own)), Some(count));
    }
    let came = match seen.outcome() {
        None => seen.slot().name().to_owned(),
        Some(Ok(response)) => {
            let status = response.status.as_u16();
            let bytes = response.body.peeked(peeked.min(BODY), 0, BODY);
            let (body, body_bytes) = match String::from_utf8(bytes) {
                Ok(text) => (Some(text).filter(|text| !text.is_empty()), None),
                Err(error) => {
                    (None, Some(error.into_bytes().into_iter().map(char::from).collect()))
                }
            };
            let trailers = response.body.trailers().map(headers);
            case.response = Some(CaseResponse {
                status,
                headers: headers(&response.headers.to_map()),
                body,
                body_bytes,
                trailers: trailers.unwrap_or_default(),
            });
            status.to_string()
        }
        Some(Err(error)) => {
            let failure = error.kind().failure();
            case.failure = Some(failure);
            case.failure_detail = Some(error.kind().name().to_owned());
            failure.name().to_owned()
        }
    };
    if seen.outcome().is_some() {
        case.history = history(seen);
    }
    case.name = format!("captured: {} {}, {came}", case.request.method, head.uri.path());
    case.expect = match said {
        Said::Handled(handled) => Expect { handled: Some(*handled), ..Expect::default() },
        Said::Responded(None) => Expect { declined: Some(true), ..Expect::default() },
        Said::Responded(Some(response)) => {
            Expect { response: Some(expected(response)), ..Expect::default() }
        }
        Said::Delay(decision) => Expect { delay: Some((*decision).into()), ..Expect::default() },
        Said::Key(key) => Expect { key: Some(shown_key(seen, *key)), ..Expect::default() },
    };
    serde_json::to_string(&case).unwrap_or_default()
}

/// A key that is made of a secret is one.
fn shown_key(seen: &GuestQuestion<'_>, key: Option<&str>) -> String {
    let key = key.unwrap_or_default();
    let is_of = |value: &str| value.contains(key) || key.contains(value);
    let mut secrets = seen
        .call
        .headers()
        .filter(|(name, value)| is_secret(name.as_str()) || value.is_sensitive());
    let query = seen.call.head().uri.query().unwrap_or_default();
    let is_secret = !key.is_empty()
        && (secrets.any(|(_, value)| is_of(&text(value)))
            || query
                .split('&')
                .filter_map(|parameter| parameter.split_once('='))
                .any(|(name, value)| is_secret(name) && !value.is_empty() && is_of(value)));
    if is_secret { REDACTED.to_owned() } else { key.to_owned() }
}

/// The attempts before the one that is judged.
fn history(seen: &GuestQuestion<'_>) -> Vec<CasePast> {
    let before =
        seen.call.history().into_iter().filter(|past| past.provenance.attempt != seen.number());
    let past = before.map(|past| {
        let (status, failure) = match past.outcome {
            AttemptOutcome::Response(status) => (Some(status), None),
            AttemptOutcome::Failure(kind) => (None, Some(kind.failure())),
            // As the contract shows it to guests.
            AttemptOutcome::Cancelled => (None, Some(fusebox_resilience::Failure::Other)),
        };
        CasePast { status, failure, elapsed: Some(millis(past.elapsed)) }
    });
    past.collect()
}

fn expected(response: &Response) -> ExpectedResponse {
    let body = text_of(response);
    let is_whole = body.len() <= BODY;
    ExpectedResponse {
        status: Some(response.status.as_u16()),
        // What was not captured can't be expected.
        headers: headers(&response.headers.to_map())
            .into_iter()
            .filter(|(_, values)| !is_redacted(values))
            .collect(),
        body: is_whole.then(|| body.clone()),
        contains: if is_whole {
            Vec::new()
        } else {
            vec![body[..body.floor_char_boundary(BODY)].to_owned()]
        },
    }
}

fn headers(headers: &HeaderMap) -> Headers {
    let values = |name: &str| {
        let shown = |value: &HeaderValue| match text(value) {
            _ if is_secret(name) || value.is_sensitive() => REDACTED.to_owned(),
            url if URLS.contains(&name) => without_secrets(&url),
            value => value,
        };
        let mut values: Vec<_> = headers.get_all(name).iter().map(shown).collect();
        if values.len() == 1 { Values::One(values.remove(0)) } else { Values::Many(values) }
    };
    headers.keys().map(|name| (name.as_str().to_owned(), values(name.as_str()))).collect()
}

fn is_redacted(values: &Values) -> bool {
    values.iter().any(|value| value.contains(REDACTED))
}

/// Rather one too many: a case can be completed by hand.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let joined = name.replace(['-', '_'], "");
    SECRET_NAMES.contains(&&*name)
        || name.split(['-', '_', '.']).any(|word| SECRET_WORDS.contains(&word))
        || SECRET_PARTS.iter().any(|part| joined.contains(part))
}

/// A path or a URL, in whose query the values of parameters that are secret by their names are not
/// shown.
fn without_secrets(url: &str) -> String {
    let Some((path, query)) = url.split_once('?') else { return url.to_owned() };
    let shown = query.split('&').map(|parameter| match parameter.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}={REDACTED}"),
        _ => parameter.to_owned(),
    });
    format!("{path}?{}", shown.collect::<Vec<_>>().join("&"))
}
