//! Fields of heads and trailers, as they are written.

use http::{HeaderName, HeaderValue};

/// Appends a field.
#[inline]
pub(crate) fn put_field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    fusebox_head::put_field(out, name.as_str().as_bytes(), value.as_bytes());
}

/// Appends a `Content-Length`.
pub(crate) fn put_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n");
}
