//! What WebSocket's handshake has over HTTP/1.1 and not over HTTP/2 (RFC 6455, section 4; RFC 8441,
//! section 5): a key, and the answer to it, by which a client knows that it speaks to a server of
//! WebSocket. Where one side speaks HTTP/2, its part is played here.

use http::{HeaderName, HeaderValue};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// The header with the key,
pub(crate) const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
/// and the one with the answer to it.
pub(crate) const ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// What is added to a key.
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Whether a protocol of this name has keys.
pub(crate) fn is_websocket(protocol: &HeaderValue) -> bool {
    protocol.as_bytes().eq_ignore_ascii_case(b"websocket")
}

/// A key that is unlike others.
pub(crate) fn new_key() -> HeaderValue {
    base64(&fastrand::u128(..).to_ne_bytes())
}

/// The answer to a key.
pub(crate) fn accept(key: &HeaderValue) -> HeaderValue {
    let told = [key.as_bytes().trim_ascii(), MAGIC].concat();
    // RFC 6455 wants this one; it protects nothing.
    base64(digest(&SHA1_FOR_LEGACY_USE_ONLY, &told).as_ref())
}

fn base64(bytes: &[u8]) -> HeaderValue {
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let is_there = digit <= three.len();
            let index = bits >> (18 - 6 * digit) & 63;
            text.push(if is_there { DIGITS[index as usize] } else { b'=' });
        }
    }
    HeaderValue::try_from(text).expect("its digits are valid in a value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_that_of_the_standard() {
        // RFC 6455, section 1.3.
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_has_16_bytes_and_is_unlike_others() {
        let (one, other) = (new_key(), new_key());
        assert_ne!(one, other);
        assert!(one.len() == 24 && one.as_bytes().ends_with(b"=="), "{one:?}");
        // RFC 4648, section 10.
        for (plain, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(plain.as_bytes()), text);
        }
    }
}
