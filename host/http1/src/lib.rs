//! HTTP/1.1 (RFC 9112) without I/O, for both sides of a proxy.
//!
//! A proxy spends most of its own time on this, and hyper's client, a task and two channels to each
//! connection, is what made the difference to nginx (`docs/performance.md`). So the proxy reads and
//! writes its connections itself, and what it reads and writes is decided here, where it can be
//! tested byte by byte: against hyper on a corpus of odd and hostile messages, by properties, and
//! by fuzzing (`fuzz`, beside this).
//!
//! | | to and from clients | to and from upstreams |
//! |---|---|---|
//! | heads that come | [`RequestHeadParser`] | [`ResponseHeadParser`] |
//! | heads that go | [`HttpExchange`] | [`encode_request`] |
//! | bodies that come | [`BodyDecoder::of_request`] | [`BodyDecoder::of_response`] |
//! | bodies that go | [`BodyEncoder`] | the same |
//!
//! Heads are parsed by `httparse`. Where a message can be read in two ways, it is refused, since
//! whoever reads it the other way may be next on the way. A client that sends such a one means
//! harm or is broken, and a request is refused for less: the table is in `request.rs`. A response
//! is taken where refusing it would break what works elsewhere, and then its connection is not used
//! again.

mod body;
mod exchange;
mod field;
mod framing;
mod head;
mod limits;
mod request;
mod response;

pub use body::{BodyDecoder, BodyEncoder, BodyError, Decoded, WrongLength, may_trail};
pub use exchange::HttpExchange;
pub use framing::{Framing, RequestFraming};
pub use head::is_shadow;
pub use limits::MAX_HEADERS;
pub use request::{RequestFault, RequestHead, RequestHeadParser, encode_request};
pub use response::{ResponseFault, ResponseHead, ResponseHeadParser};
