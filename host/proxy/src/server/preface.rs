//! What tells HTTP/2 from HTTP/1.

use crate::frames::PREFACE;

/// The part of it that is the head of a request, which no other client sends.
const HEAD: usize = 18;

/// Whether these are the first bytes of a client that knows that HTTP/2 is spoken here (RFC 9113,
/// section 3.3). In HTTP/1 they are refused.
pub(super) fn begins_as_http2(bytes: &[u8]) -> bool {
    bytes.starts_with(&PREFACE[..HEAD])
}
