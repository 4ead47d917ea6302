//! What tells HTTP/2 from HTTP/1.

/// What a client of HTTP/2 sends before its first frame (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The part of it that is the head of a request, which no other client sends.
const HEAD: usize = 18;

/// Whether these are the first bytes of a client that knows that HTTP/2 is spoken here (RFC 9113,
/// section 3.3). In HTTP/1 they are refused.
pub(super) fn begins_as_http2(bytes: &[u8]) -> bool {
    bytes.starts_with(&PREFACE[..HEAD])
}
