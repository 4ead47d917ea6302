//! `Cache-Status` (RFC 9211): what the cache did for a response, for whoever looks at it.

use std::fmt::Write as _;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why a request went on to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forwarded {
    /// Nothing is kept for what it asks for.
    UriMiss,
    /// What is kept is for other requests.
    VaryMiss,
    /// What is kept is stale.
    Stale,
    /// What is kept is fresh, but the client wants it validated.
    Request,
    /// Its method is not one that is answered here.
    Method,
    /// It asks for what is not kept, such as a part.
    Bypass,
}

impl Forwarded {
    fn name(self) -> &'static str {
        match self {
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Stale => "stale",
            Self::Request => "request",
            Self::Method => "method",
            Self::Bypass => "bypass",
        }
    }
}

/// What the cache did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CacheStatus {
    forwarded: Option<Forwarded>,
    /// What the upstream answered, if the client gets something else.
    received: Option<StatusCode>,
    /// For how long what is kept stays fresh, in seconds; less than 0: it is stale.
    left: Option<i64>,
    is_stored: bool,
    is_collapsed: bool,
    detail: Option<&'static str>,
}

impl CacheStatus {
    /// It answered from what it keeps.
    pub(super) fn hit(age: Duration, lifetime: Duration) -> Self {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let left = Some(seconds(lifetime) - seconds(age));
        Self { left, ..Self::default() }
    }

    /// The request went on.
    pub(super) fn forwarded(why: Forwarded) -> Self {
        Self { forwarded: Some(why), ..Self::default() }
    }

    /// The same; the upstream's answer was another one.
    pub(super) fn received(self, status: Option<StatusCode>) -> Self {
        Self { received: status, ..self }
    }

    /// The same; the response is kept.
    pub(super) fn stored(self, is_stored: bool) -> Self {
        Self { is_stored, ..self }
    }

    /// The same; the answer is that to another request.
    pub(super) fn collapsed(self) -> Self {
        Self { is_collapsed: true, ..self }
    }

    /// The same with a word of our own.
    pub(super) fn detail(self, detail: &'static str) -> Self {
        Self { detail: Some(detail), ..self }
    }

    /// Adds it to those of caches further in.
    pub(super) fn add_to(self, headers: &mut HeaderMap) {
        let mut said = String::from("fusebox");
        // A `String` takes everything.
        match self.forwarded {
            None => said.push_str("; hit"),
            Some(why) => drop(write!(said, "; fwd={}", why.name())),
        }
        if let Some(status) = self.received {
            let _ = write!(said, "; fwd-status={}", status.as_u16());
        }
        if let Some(left) = self.left {
            let _ = write!(said, "; ttl={left}");
        }
        if self.is_stored {
            said.push_str("; stored");
        }
        if self.is_collapsed {
            said.push_str("; collapsed");
        }
        if let Some(detail) = self.detail {
            let _ = write!(said, "; detail={detail}");
        }
        // Its words are constants and numbers, so it is valid.
        if let Ok(value) = HeaderValue::try_from(said) {
            headers.append(CACHE_STATUS, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_added_behind_those_of_others() {
        let mut headers = HeaderMap::new();
        headers.append(CACHE_STATUS, HeaderValue::from_static("Origin; hit"));
        CacheStatus::hit(Duration::from_millis(7_900), Duration::from_secs(5))
            .detail("max-stale")
            .add_to(&mut headers);
        CacheStatus::forwarded(Forwarded::Stale)
            .received(Some(StatusCode::NOT_MODIFIED))
            .stored(true)
            .collapsed()
            .add_to(&mut headers);
        let said: Vec<_> = headers.get_all(CACHE_STATUS).iter().collect();
        assert_eq!(
            said,
            [
                "Origin; hit",
                "fusebox; hit; ttl=-2; detail=max-stale",
                "fusebox; fwd=stale; fwd-status=304; stored; collapsed",
            ]
        );
    }
}
