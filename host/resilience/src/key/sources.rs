//! The parts of a request that may make a key.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderName, header};

use super::config::KeySourceConfig;
use crate::keyer::{KeyQuestion, Keyer};
use crate::request::Request;

/// A part of the request, or a component that looks at it.
#[derive(Clone, Debug)]
pub(super) enum KeySource {
    Header(HeaderName),
    Client,
    PathSegment(usize),
    Query(String),
    Cookie(String),
    Component(Arc<dyn Keyer>),
}

/// Finds the component of a name that may be asked for a key.
pub(super) type FindKeyer<'a> = dyn Fn(&str) -> Result<Arc<dyn Keyer>, String> + 'a;

impl KeySource {
    /// # Errors
    /// There can be no such part, or there is no such component.
    pub(super) fn build(config: KeySourceConfig, keyer: &FindKeyer<'_>) -> Result<Self, String> {
        let named = |name: String, what: &str| {
            if name.is_empty() { Err(format!("needs the name of a {what}")) } else { Ok(name) }
        };
        Ok(match config {
            KeySourceConfig::Header(name) => Self::Header(
                HeaderName::try_from(&name).map_err(|_| format!("`{name}` is no header's name"))?,
            ),
            KeySourceConfig::Client(true) => Self::Client,
            KeySourceConfig::Client(false) => return Err("`client` must be true".into()),
            KeySourceConfig::PathSegment(0) => {
                return Err("`path_segment` must be at least 1, is 0".into());
            }
            KeySourceConfig::PathSegment(number) => Self::PathSegment(number),
            KeySourceConfig::Query(name) => Self::Query(named(name, "parameter")?),
            KeySourceConfig::Cookie(name) => Self::Cookie(named(name, "cookie")?),
            KeySourceConfig::Component(name) => Self::Component(keyer(&name)?),
        })
    }

    /// Its value for this call. `None`: there is none, or it is empty.
    pub(super) fn value<'a>(&'a self, seen: &KeyQuestion<'a>) -> Option<Cow<'a, [u8]>> {
        if let Self::Component(keyer) = self {
            return keyer
                .key(seen)
                .filter(|key| !key.is_empty())
                .map(|key| key.into_bytes().into());
        }
        self.value_of(seen.call.request())
    }

    /// Its value in this request. `None`: there is none, or it is empty, or a component would have
    /// to be asked.
    pub(super) fn value_of<'a>(&'a self, request: &'a Request) -> Option<Cow<'a, [u8]>> {
        let value = match self {
            Self::Header(name) => Cow::from(request.header(name.as_str())?.as_bytes()),
            Self::Client => Cow::from(request.client_address().as_bytes()),
            Self::PathSegment(number) => {
                let segment =
                    |path: &'a str| path.trim_start_matches('/').split('/').nth(number - 1);
                match request.read_path() {
                    Some(path) => Cow::from(segment(path)?.as_bytes()),
                    None => decoded(segment(request.head().uri.path())?, false),
                }
            }
            Self::Query(name) => query_values(request.head().uri.query()?, name).next()?,
            Self::Cookie(name) => Cow::from(cookie(request, name)?),
            Self::Component(_) => return None,
        };
        (!value.is_empty()).then_some(value)
    }
}

/// The values of the parameters of this name in a query.
pub fn query_values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = Cow<'a, [u8]>> {
    query.split('&').filter_map(move |parameter| {
        let (found, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        (*decoded(found, true) == *name.as_bytes()).then(|| decoded(value, true))
    })
}

fn cookie<'a>(request: &'a Request, name: &str) -> Option<&'a [u8]> {
    let lines = request.head().headers.get_all(header::COOKIE).iter();
    let cookies = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    cookies.map(<[u8]>::trim_ascii).find_map(|cookie| {
        let value = cookie.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        Some(quoted.unwrap_or(value))
    })
}

/// Percent-encoding undone, so that nobody gets another state by another spelling. In a query, a
/// `+` is a space.
fn decoded(text: &str, is_query: bool) -> Cow<'_, [u8]> {
    let is_plain = |byte: u8| byte != b'%' && !(is_query && byte == b'+');
    if text.bytes().all(is_plain) {
        return Cow::from(text.as_bytes());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%'
            && let [high, low, after @ ..] = after
            && let Some(escaped) = hex(*high, *low)
        {
            decoded.push(escaped);
            rest = after;
        } else {
            decoded.push(if byte == b'+' && is_query { b' ' } else { byte });
        }
    }
    Cow::from(decoded)
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}
