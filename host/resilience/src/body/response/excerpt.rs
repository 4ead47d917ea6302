//! What has been read ahead of a response body, as a body of its own: for questions about the
//! response while the rest of it goes to the client.

use bytes::Bytes;
use http::HeaderMap;

use super::{Aside, ResponseBody};

impl ResponseBody {
    /// Only the beginning of a body. What comes behind it is elsewhere.
    pub fn beginning(bytes: impl Into<Bytes>) -> Self {
        Self {
            aside: Some(Aside { is_excerpt: true, ..Aside::default() }.into()),
            ..Self::full(bytes)
        }
    }

    /// What has been read ahead of this one.
    pub(crate) fn excerpt(&self) -> Self {
        let grpc = self.aside.as_ref().map_or_else(Default::default, |aside| aside.grpc);
        let aside = Aside { is_excerpt: true, grpc, ..Aside::default() };
        Self { ahead: self.ahead.clone(), aside: Some(aside.into()), ..Self::default() }
    }

    /// It has ended, with these trailers.
    pub(crate) fn end_with(&mut self, trailers: HeaderMap) {
        self.note(&trailers);
        self.put_trailers(trailers);
    }

    /// Whether trailers may still come behind it.
    pub(crate) fn awaits_trailers(&self) -> bool {
        !self.has_come() && self.aside.as_ref().is_none_or(|aside| aside.tunnel.is_none())
    }
}
