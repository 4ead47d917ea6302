//! The header fields of a request, as an attempt sends them.

use std::iter;

use fusebox_resilience::{Call, Marks, Preconditions};
use http::{HeaderName, HeaderValue, header};

use crate::config::{EndpointUrl, UpstreamConfig};
use crate::headers::TakesTrailers;

const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const TE: HeaderValue = HeaderValue::from_static("te");

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

    /// The same over HTTP/1.1, where who takes trailers says so to each hop (RFC 9110, section
    /// 10.1.4): without it a server may leave them out, and with them the status of gRPC.
    pub(super) fn with_trailers_asked_for(mut self) -> Self {
        let request = self.call.request();
        let takes = request.is_grpc() || request.head().extensions.get::<TakesTrailers>().is_some();
        // What switches to another protocol has an answer without trailers.
        if takes && !request.is_upgrade() {
            self.told.extend([(header::TE, TRAILERS), (header::CONNECTION, TE)]);
        }
        self
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
