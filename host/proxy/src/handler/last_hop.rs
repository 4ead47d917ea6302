//! Requests that are for fusebox itself: `OPTIONS *`, and an OPTIONS or TRACE that may be handed on
//! no further (RFC 9110, sections 7.6.2, 9.3.7 and 9.3.8).
//!
//! `OPTIONS *` asks whether somebody is there. It gets a 204 without `Allow`: which methods there
//! are depends on what is asked for, and of that it says nothing.

use bytes::Bytes;
use fusebox_resilience::{RequestFlaw, ResponseBody};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header, request};

use crate::reply::Refusal;

/// The fields that an answer to TRACE shows: those that are known to hold no secret, since a key
/// may stand in any other.
const SHOWN: [HeaderName; 14] = [
    header::ACCEPT,
    header::ACCEPT_CHARSET,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::HOST,
    header::MAX_FORWARDS,
    header::TE,
    header::TRANSFER_ENCODING,
    header::USER_AGENT,
    header::VIA,
];

/// Why a request goes to no upstream.
#[derive(Debug)]
pub(crate) enum NoUpstream {
    /// It is refused.
    Refused(Refusal),
    /// It was for fusebox, and this is the answer.
    LastHop(Box<Response<ResponseBody>>),
}

impl From<Refusal> for NoUpstream {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A request that is for fusebox, though a route may take it.
#[derive(Debug)]
pub(super) struct LastHop {
    is_for_all: bool,
    /// In a box: it is rare.
    answer: Box<Response<ResponseBody>>,
}

impl LastHop {
    /// Counts a hop of an OPTIONS or TRACE that says how many are left. `None`: it goes on.
    ///
    /// # Errors
    /// What it says is not one number.
    #[inline]
    pub(super) fn reached(head: &mut request::Parts) -> Result<Option<Self>, RequestFlaw> {
        match head.method == Method::OPTIONS || head.method == Method::TRACE {
            true => Self::counted(head),
            false => Ok(None),
        }
    }

    #[cold]
    fn counted(head: &mut request::Parts) -> Result<Option<Self>, RequestFlaw> {
        let is_for_all = head.uri.path() == "*";
        match left(head)? {
            Some(0) => {}
            _ if is_for_all => {}
            Some(left) => {
                head.headers.insert(header::MAX_FORWARDS, (left - 1).into());
                return Ok(None);
            }
            None => return Ok(None),
        }
        let answer = if head.method == Method::TRACE { shown(head) } else { nothing() };
        Ok(Some(Self { is_for_all, answer: answer.into() }))
    }

    /// What becomes of its request, for which a route was looked for.
    pub(super) fn answer(self, route: Result<usize, Refusal>) -> NoUpstream {
        match route {
            // No route has that for a path.
            Err(Refusal::NoRoute) if self.is_for_all => {}
            Err(refusal) => return refusal.into(),
            Ok(_) => {}
        }
        NoUpstream::LastHop(self.answer)
    }
}

/// How many hops are left, if it is said.
fn left(head: &request::Parts) -> Result<Option<u64>, RequestFlaw> {
    let mut said = head.headers.get_all(header::MAX_FORWARDS).iter();
    let Some(first) = said.next() else { return Ok(None) };
    let digits = first.as_bytes();
    if said.next().is_some() || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(RequestFlaw::MaxForwards);
    }
    // Nobody is that far away.
    let number = str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    Ok(Some(number.unwrap_or(u64::MAX)))
}

fn nothing() -> Response<ResponseBody> {
    let mut answer = Response::new(ResponseBody::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// The request as it came, but for what may be a secret.
fn shown(head: &request::Parts) -> Response<ResponseBody> {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut text = format!("TRACE {target} {:?}\r\n", head.version).into_bytes();
    for (name, value) in head.headers.iter().filter(|(name, _)| SHOWN.contains(name)) {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            text.extend_from_slice(part);
        }
    }
    text.extend_from_slice(b"\r\n");
    let mut answer = Response::new(ResponseBody::full(Bytes::from(text)));
    let kind = HeaderValue::from_static("message/http");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}
