//! A response on its way to a client, before it is framed.

use bytes::Bytes;
use fusebox_head::HeaderFields;
use fusebox_resilience::{Error, ResponseBody};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use http_body::Body;

use crate::headers::{self, ID_NAME};

/// A response for a client. What every response gets is not put into its map: that would cost more
/// than to send it from where it is.
#[derive(Debug)]
pub(crate) struct ClientResponse<B> {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderFields,
    /// The request id, in place of what the upstream may have said.
    id: HeaderValue,
    /// What the proxy adds to name itself among those on the way.
    via: Option<&'static HeaderValue>,
    pub(crate) body: B,
}

impl ClientResponse<ResponseBody> {
    /// A response that the proxy makes itself.
    pub(crate) fn own(response: http::Response<ResponseBody>, id: HeaderValue) -> Self {
        let (head, body) = response.into_parts();
        Self { status: head.status, headers: head.headers.into(), id, via: None, body }
    }

    /// The response of an upstream, which came over this version, or of a fallback.
    pub(crate) fn of(
        response: fusebox_resilience::Response,
        received: Version,
        id: HeaderValue,
    ) -> Self {
        let mut headers = response.headers;
        let via = headers::add_to_via(&mut headers, received);
        Self { status: response.status, headers, id, via, body: response.body }
    }
}

impl<B> ClientResponse<B> {
    /// The same with another body.
    pub(crate) fn map<C>(self, body: impl FnOnce(B) -> C) -> ClientResponse<C> {
        let Self { status, headers, id, via, body: own } = self;
        ClientResponse { status, headers, id, via, body: body(own) }
    }

    /// Its parts, with all its fields in the map, and `date` if it has none.
    pub(crate) fn into_parts(self, date: HeaderValue) -> (StatusCode, HeaderMap, B) {
        let Self { status, headers, id, via, body } = self;
        let mut headers = headers.into_map();
        headers.insert(ID_NAME.clone(), id);
        if let Some(via) = via {
            headers.insert(header::VIA, via.clone());
        }
        headers.entry(header::DATE).or_insert(date);
        (status, headers, body)
    }

    /// The fields that go with its headers, in place of those of the same name, with this `Date`.
    pub(crate) fn own_fields<'a>(
        &'a self,
        date: Option<&'a HeaderValue>,
    ) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> + Clone {
        let via = self.via.map(|via| (&header::VIA, via));
        let date = date.map(|date| (&header::DATE, date));
        [Some((&ID_NAME, &self.id)), via, date].into_iter().flatten()
    }
}

impl<B: Body<Data = Bytes, Error = Error>> ClientResponse<B> {
    /// How long its body is, if that is known.
    pub(crate) fn length(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }
}
