//! The header fields of a request, as an attempt sends them.

use std::iter;

use fusebox_resilience::{Call, Marks, Preconditions};
use http::{HeaderName, HeaderValue, header};

use crate::config::{EndpointUrl, UpstreamConfig};

/// The fields of an attempt: those of the request, and what it says beside or in place of them.
pub(super) struct Fields<'a> {
    call: &'a Call,
    host: &'a HeaderValue,
    marks: Marks,
    told: Vec<(HeaderName, HeaderValue)>,
    preconditions: Option<&'a Preconditions>,
}

impl<'a> Fields<'a> {
    /// Those of the attempt of this number, with what it tells in place of what the request says
    /// there itself, and these preconditions, if there are any, in place of its own.
    pub(super) fn new(
        call: &'a Call,
        attempt: u32,
        told: Vec<(HeaderName, HeaderValue)>,
        preconditions: Option<&'a Preconditions>,
        (upstream, endpoint): (&UpstreamConfig, &'a EndpointUrl),
    ) -> Self {
        let host = upstream.host(endpoint, &call.head().headers);
        let marks = Marks::of(call, attempt, upstream.settings.envoy_attempt_count);
        Self { call, host, marks, told, preconditions }
    }

    /// The host that is asked.
    pub(super) fn host(&self) -> &'a HeaderValue {
        self.host
    }

    /// All but the host.
    pub(super) fn others(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let told = self.told.iter().map(|(name, value)| (name, value));
        let own = self.marks.fields().chain(told);
        let of_own = own.clone();
        let has_own = own.clone().next().is_some();
        let is_own = move |name| has_own && of_own.clone().any(|(other, _)| other == name);
        let is_replaced = |name| self.preconditions.is_some() && Preconditions::replace(name);
        let of_request = self.call.headers();
        let of_request = of_request.filter(move |(name, _)| {
            **name != header::HOST && !is_own(*name) && !is_replaced(name)
        });
        let conditions = self.preconditions.into_iter().flat_map(Preconditions::fields);
        of_request.chain(own).chain(conditions)
    }

    /// All of them, the host first.
    pub(super) fn all(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        iter::once((&header::HOST, self.host)).chain(self.others())
    }
}
