//! The client's half of HTTP/1.1 (RFC 9112), without I/O: requests to bytes, bytes to responses.
//!
//! A proxy spends most of its own time on this, and hyper's client, a task and two channels to each
//! connection, is what made the difference to nginx (`docs/performance.md`). So the proxy reads and
//! writes its upstream connections itself, and what it reads and writes is decided here, where it
//! can be tested byte by byte: against hyper's client on a corpus of odd and hostile responses (in
//! the proxy's tests), by properties, and by fuzzing (`fuzz`, beside this).
//!
//! Heads are parsed by `httparse`. Where a response can be read in two ways, it is refused, since
//! whoever reads it the other way may be next on the way; or, where that would break what works
//! elsewhere, its connection is not used again.

mod body;
mod field;
mod framing;
mod limits;
mod request;
mod response;

pub use body::{BodyDecoder, BodyEncoder, BodyError, Decoded, WrongLength};
pub use framing::{Framing, RequestFraming};
pub use limits::MAX_HEADERS;
pub use request::encode_request;
pub use response::{ResponseFault, ResponseHead, ResponseHeadParser};
