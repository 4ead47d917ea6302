//! A response as it is kept: its head and its whole body, in memory of its own, so that its weight
//! is what it takes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::time::Instant;

use super::conditional;
use super::key::{CacheKey, VaryNames};
use super::rules::Freshness;
use super::status::CacheStatus;
use crate::body::ResponseBody;
use crate::call_fields;
use crate::outcome::Response;
use crate::request::Request;

/// What an entry takes beside its bytes, about: its place in the maps, counts, lengths.
const OVERHEAD: usize = 320;
/// What a field takes beside its bytes, about: its place in the map.
const FIELD: usize = 120;

/// The head of a response that others may have.
#[derive(Debug)]
pub(super) struct KeptHead {
    pub(super) status: StatusCode,
    /// Without `Age`, and without what is about the call that brought it.
    pub(super) headers: HeaderMap,
    /// `None`: it is a failure, for those who ask now.
    pub(super) freshness: Option<Freshness>,
    /// When it came.
    received: Instant,
    /// What it depends on.
    pub(super) vary: Option<Arc<VaryNames>>,
    pub(super) key: CacheKey,
}

impl KeptHead {
    /// The head that came at `received`, by the wall clock at `date`.
    pub(super) fn new(
        status: StatusCode,
        headers: &HeaderMap,
        freshness: Option<Freshness>,
        (received, date): (Instant, SystemTime),
        vary: Option<Arc<VaryNames>>,
        key: CacheKey,
    ) -> Self {
        let mut headers = compact(headers);
        headers.remove(header::AGE);
        call_fields::remove(&mut headers);
        if !headers.contains_key(header::DATE)
            && let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(date))
        {
            // Whoever keeps a response says when it came (RFC 9110, section 6.6.1).
            headers.insert(header::DATE, date);
        }
        Self { status, headers, freshness, received, vary, key }
    }

    /// How old it is.
    pub(super) fn age(&self, now: Instant) -> Duration {
        let initial = self.freshness.map_or(Duration::ZERO, |freshness| freshness.initial_age);
        initial + now.saturating_duration_since(self.received)
    }

    /// The response with this body, for a client that gets it from here.
    pub(super) fn response(
        &self,
        request: &Request,
        body: impl FnOnce() -> ResponseBody,
        age: Duration,
        status: CacheStatus,
    ) -> Response {
        let has_already = conditional::has_already(request, self.status, &self.headers);
        let (code, mut headers, body) = if has_already {
            let headers = conditional::not_modified(&self.headers);
            (StatusCode::NOT_MODIFIED, headers, ResponseBody::empty())
        } else {
            (self.status, self.headers.clone(), body())
        };
        if self.freshness.is_some() {
            headers.insert(header::AGE, HeaderValue::from(age.as_secs()));
        }
        status.add_to(&mut headers);
        Response::new(code, headers, body)
    }

    /// Its bytes.
    pub(super) fn weight(&self) -> usize {
        let fields = self.headers.iter();
        let fields = fields.map(|(name, value)| FIELD + name.as_str().len() + value.len());
        let vary = self.vary.as_ref().map_or(0, |vary| vary.weight());
        fields.sum::<usize>() + vary + self.key.len() + OVERHEAD
    }
}

/// The same fields in memory of their own: those that came lie within what was read from the
/// upstream.
fn compact(headers: &HeaderMap) -> HeaderMap {
    let length = headers.values().map(HeaderValue::len).sum();
    let mut bytes = BytesMut::with_capacity(length);
    let mut compact = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        bytes.extend_from_slice(value.as_bytes());
        if let Ok(value) = HeaderValue::from_maybe_shared(bytes.split().freeze()) {
            compact.append(name.clone(), value);
        }
    }
    compact
}

/// A response that is kept.
#[derive(Debug)]
pub(super) struct KeptResponse {
    pub(super) head: Arc<KeptHead>,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

impl KeptResponse {
    /// The response for a client that gets it from here.
    pub(super) fn response(
        &self,
        request: &Request,
        age: Duration,
        status: CacheStatus,
    ) -> Response {
        self.head.response(request, || self.body(), age, status)
    }

    /// Its body.
    pub(super) fn body(&self) -> ResponseBody {
        match &self.trailers {
            Some(trailers) => ResponseBody::full_with(self.body.clone(), trailers.clone()),
            None => ResponseBody::full(self.body.clone()),
        }
    }

    /// Whether it is fresh for a while after it was validated, so that others wait for that.
    pub(super) fn becomes_fresh(&self) -> bool {
        self.head.freshness.is_some_and(|freshness| freshness.is_fresh(Duration::ZERO))
    }

    /// Whether it is fresh for somebody.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.head.freshness.is_some_and(|freshness| freshness.is_fresh(self.head.age(now)))
    }

    /// Whether it may stand for a failure now.
    pub(super) fn stands_for_failure(&self, now: Instant) -> bool {
        let age = self.head.age(now);
        self.head.freshness.is_some_and(|freshness| freshness.stands_for_failure(age))
    }

    /// The same body under a newer head.
    pub(super) fn under(&self, head: KeptHead) -> Self {
        Self { head: head.into(), body: self.body.clone(), trailers: self.trailers.clone() }
    }

    /// Its bytes, headers and key included.
    pub(super) fn weight(&self) -> usize {
        let trailers = self.trailers.iter().flatten();
        let trailers = trailers.map(|(_, value)| FIELD + value.len()).sum::<usize>();
        self.head.weight() + trailers + self.body.len()
    }
}
