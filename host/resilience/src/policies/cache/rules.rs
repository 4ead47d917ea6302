//! The rules of a shared cache, without a clock and without a store: which responses may be kept
//! (RFC 9111, section 3), for how long they are fresh (4.2), and what a request may get of one
//! that is kept (4, and RFC 5861).
//!
//! `truth.txt` is their truth table, taken from the text of the RFCs. The crate
//! `http-cache-semantics` 3.0 was held against it first: it fails 31 of 108 rows, of which its
//! options mend none. Among them: it keeps what says `NO-STORE` in capitals, `Vary: accept, *` and
//! whatever has `Set-Cookie`; it takes the longer of two `max-age`; it splits lists within quotes;
//! it takes `proxy-revalidate` for "never fresh" rather than "never stale"; and it knows no
//! `stale-*`. It also reads the wall clock, a step of which changes ages, and holds copies of both
//! heads, which no weight could count.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, StatusCode, header};

use super::control::{Directives, seconds};
use crate::event::NotStored;

/// What the configuration adds where a response says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Defaults {
    pub(super) ttl: Duration,
    pub(super) stale_if_error: Duration,
    pub(super) stale_while_revalidate: Duration,
}

/// How long a kept response may be used, and for what. Ages are the caller's to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Freshness {
    /// It is fresh until it is so old.
    pub(super) lifetime: Duration,
    /// How old it was when it came.
    pub(super) initial_age: Duration,
    /// Each use has to be validated.
    always_validate: bool,
    /// It is never to be used stale.
    never_stale: bool,
    /// It is not to be used stale because a client takes it so.
    ignores_max_stale: bool,
    stale_if_error: Duration,
    stale_while_revalidate: Duration,
}

/// What a request may get of a kept response of some age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usable {
    /// It, at once.
    Fresh,
    /// It, at once, although it is stale: the client takes it so.
    AsAsked,
    /// It, at once, while it is being validated.
    WhileRevalidating,
    /// It, if the upstream says that it is still valid.
    Validated,
}

impl Freshness {
    /// Of what is not to be used again.
    pub(super) const NONE: Self = Self {
        lifetime: Duration::ZERO,
        initial_age: Duration::ZERO,
        always_validate: true,
        never_stale: true,
        ignores_max_stale: true,
        stale_if_error: Duration::ZERO,
        stale_while_revalidate: Duration::ZERO,
    };

    /// What a request may get of it when it is of this age.
    pub(super) fn usable(&self, age: Duration, asked: &Directives) -> Usable {
        if self.always_validate || asked.no_cache {
            return Usable::Validated;
        }
        let staleness = age.saturating_sub(self.lifetime);
        let is_fresh = age < self.lifetime;
        let is_young = asked.max_age.is_none_or(|limit| age <= limit);
        let is_long =
            asked.min_fresh.is_none_or(|least| least <= self.lifetime.saturating_sub(age));
        if is_fresh && is_young && is_long {
            return Usable::Fresh;
        }
        if is_fresh || self.never_stale {
            return Usable::Validated;
        }
        let is_taken = asked.max_stale.is_some_and(|most| staleness <= most);
        if is_taken && is_young && !self.ignores_max_stale {
            return Usable::AsAsked;
        }
        if staleness < self.stale_while_revalidate && is_young && asked.min_fresh.is_none() {
            return Usable::WhileRevalidating;
        }
        Usable::Validated
    }

    /// Whether it may stand for a failure when it is of this age.
    pub(super) fn stands_for_failure(&self, age: Duration) -> bool {
        let staleness = age.saturating_sub(self.lifetime);
        let is_allowed = age < self.lifetime || staleness < self.stale_if_error;
        is_allowed && !self.always_validate && (!self.never_stale || age < self.lifetime)
    }

    /// Whether several may have it that ask at once: it need not be validated for each of them.
    pub(super) fn is_for_many(&self) -> bool {
        !self.always_validate && self.initial_age < self.lifetime
    }

    /// Whether it is fresh for somebody.
    pub(super) fn is_fresh(&self, age: Duration) -> bool {
        !self.always_validate && age < self.lifetime
    }

    /// Whether it is of any use later on without being validated.
    fn is_ever_usable(&self) -> bool {
        let is_stale_usable = !self.never_stale
            && (!self.stale_if_error.is_zero() || !self.stale_while_revalidate.is_zero());
        !self.always_validate && (self.initial_age < self.lifetime || is_stale_usable)
    }
}

/// Whether a response may be kept, and how long it may then be used.
///
/// It was asked for with GET, and came after `delay`, at the time `now` of the wall clock.
pub(super) fn may_store(
    request: &HeaderMap,
    status: StatusCode,
    headers: &HeaderMap,
    delay: Duration,
    now: SystemTime,
    defaults: &Defaults,
) -> Result<Freshness, NotStored> {
    let said = Directives::of(headers);
    allows(request, status, headers, &said)?;
    let lifetime = lifetime(status, headers, &said, now, defaults).ok_or(NotStored::Freshness)?;
    // `s-maxage` implies `proxy-revalidate` (section 5.2.2.10), so only what the response itself
    // says about being stale goes before it. Many send both, and mean both.
    let is_implied = said.s_maxage.is_some();
    let default = |time: Duration| if is_implied { Duration::ZERO } else { time };
    let freshness = Freshness {
        lifetime,
        initial_age: received_age(headers) + delay,
        always_validate: said.no_cache,
        never_stale: said.must_revalidate || said.proxy_revalidate || said.no_cache,
        ignores_max_stale: is_implied,
        stale_if_error: said.stale_if_error.unwrap_or(default(defaults.stale_if_error)),
        stale_while_revalidate: said
            .stale_while_revalidate
            .unwrap_or(default(defaults.stale_while_revalidate)),
    };
    if freshness.is_ever_usable() || has_validator(headers) {
        Ok(freshness)
    } else {
        Err(NotStored::Freshness)
    }
}

/// What forbids to keep it, or to let several have it, whatever its age.
pub(super) fn allows(
    request: &HeaderMap,
    status: StatusCode,
    headers: &HeaderMap,
    said: &Directives,
) -> Result<(), NotStored> {
    let is_understood = UNDERSTOOD.contains(&status.as_u16());
    // Parts of a response are not kept, and a 304 stands for another one.
    if matches!(status.as_u16(), 100..=199 | 206 | 304) || said.must_understand && !is_understood {
        return Err(NotStored::Status);
    }
    let forbids = said.no_store && !(said.must_understand && is_understood);
    if forbids || Directives::of_request(request).no_store {
        return Err(NotStored::NoStore);
    }
    if said.private {
        return Err(NotStored::Private);
    }
    // The RFC would allow it with `public`. It is hardly ever meant, and then somebody has the
    // session of another one.
    if headers.contains_key(header::SET_COOKIE) {
        return Err(NotStored::SetCookie);
    }
    let is_for_all = said.public || said.must_revalidate || said.s_maxage.is_some();
    if request.contains_key(header::AUTHORIZATION) && !is_for_all {
        return Err(NotStored::Authorization);
    }
    let is_star = |value: &http::HeaderValue| {
        value.as_bytes().split(|byte| *byte == b',').any(|name| name.trim_ascii() == b"*")
    };
    if headers.get_all(header::VARY).iter().any(is_star) {
        return Err(NotStored::Vary);
    }
    Ok(())
}

/// The statuses of which the cache knows all that RFC 9110 says about caching them.
const UNDERSTOOD: [u16; 17] =
    [200, 203, 204, 300, 301, 302, 303, 307, 308, 400, 403, 404, 405, 410, 414, 421, 501];

/// The statuses that get `default_ttl`.
const WITH_DEFAULT: [u16; 7] = [200, 203, 204, 301, 308, 404, 410];

/// For how long it is fresh (section 4.2.1); `None`: nothing says that it is to be kept. There is
/// no guess from `Last-Modified`.
fn lifetime(
    status: StatusCode,
    headers: &HeaderMap,
    said: &Directives,
    now: SystemTime,
    defaults: &Defaults,
) -> Option<Duration> {
    if let Some(said) = said.s_maxage.or(said.max_age) {
        return Some(said);
    }
    if let Some(expires) = headers.get(header::EXPIRES) {
        // Against the upstream's own clock, if it says what that is.
        let sent = date(headers.get(header::DATE)).unwrap_or(now);
        let left = date(Some(expires)).and_then(|expires| expires.duration_since(sent).ok());
        return Some(left.unwrap_or_default());
    }
    if !defaults.ttl.is_zero() && WITH_DEFAULT.contains(&status.as_u16()) {
        return Some(defaults.ttl);
    }
    (said.no_cache || said.public || said.must_revalidate).then_some(Duration::ZERO)
}

/// How old a response is that comes with this `Age` (section 4.2.3). Clocks are not compared: each
/// cache on the way has said `Age` since HTTP/1.1.
fn received_age(headers: &HeaderMap) -> Duration {
    let first = headers.get(header::AGE).map(|age| age.as_bytes());
    let first = first.and_then(|age| age.split(|byte| *byte == b',').next());
    first.and_then(|age| seconds(age.trim_ascii())).unwrap_or_default()
}

/// Whether the upstream can be asked if it is still valid.
pub(super) fn has_validator(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED)
}

/// A date of HTTP.
pub(super) fn date(value: Option<&http::HeaderValue>) -> Option<SystemTime> {
    httpdate::parse_http_date(value?.to_str().ok()?).ok()
}

/// Whether a method that succeeds may have changed what its target is (section 4.4).
pub(super) fn is_unsafe(method: &Method) -> bool {
    const QUERY: &str = "QUERY";
    !method.is_safe() && method.as_str() != QUERY
}

#[cfg(test)]
mod tests;
