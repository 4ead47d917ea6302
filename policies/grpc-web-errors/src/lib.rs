//! gRPC-Web reports its status behind the answer's body, with status 200: takes those of a list for
//! failures.
//!
//! The status is the header `grpc-status` of an answer without messages, or that of the trailers,
//! which are the last frame of the body; `application/grpc-web-text` has the body in base64. It sees
//! as much of a body as `peek_body` of the component allows: trailers behind that are not judged.
//! An answer that has no status, such as one of a proxy between, has the one that gRPC gives its
//! HTTP status; what is no gRPC-Web at all is a failure with 5xx. No response is a failure.
//!
//! The setting `statuses` lists names or numbers; `unavailable` alone is what gRPC says is safe to
//! ask again (doc/statuscodes.md).

use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use exports::fusebox::policy::predicate;
use fusebox::policy::types::Outcome;
use fusebox::policy::{attempt, settings};

wit_bindgen::generate!({ path: "../../wit", world: "predicate-policy" });

struct GrpcWebErrors;

export!(GrpcWebErrors);

/// The names of the statuses, by their numbers.
const NAMES: [&str; 17] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid-argument",
    "deadline-exceeded",
    "not-found",
    "already-exists",
    "permission-denied",
    "resource-exhausted",
    "failed-precondition",
    "aborted",
    "out-of-range",
    "unimplemented",
    "internal",
    "unavailable",
    "data-loss",
    "unauthenticated",
];

/// Read once: settings don't change while an instance lives.
static STATUSES: LazyLock<Vec<usize>> = LazyLock::new(|| {
    let list = settings::get("statuses").unwrap_or_else(|| "unavailable".into());
    let number = |word: &str| {
        let named = NAMES.iter().position(|name| *name == word);
        named.or_else(|| word.parse().ok().filter(|number| (1..NAMES.len()).contains(number)))
    };
    list.split(',')
        .map(|word| {
            number(word.trim()).filter(|number| *number > 0).unwrap_or_else(|| {
                panic!(
                    "setting `statuses`: expected statuses of gRPC between commas, as \
                     `unavailable` or 14, found `{}`",
                    word.trim()
                )
            })
        })
        .collect()
});

impl predicate::Guest for GrpcWebErrors {
    fn handle_if(outcome: Outcome) -> bool {
        // A setting that makes no sense shows when the component starts, not with the first error.
        let statuses = &*STATUSES;
        let Outcome::Response(status) = outcome else { return true };
        let kind = attempt::response_header("content-type").unwrap_or_default();
        if !kind.to_ascii_lowercase().starts_with("application/grpc-web") {
            return match status_of_http(status) {
                Some(found) => statuses.contains(&found) || status >= 500,
                None => false,
            };
        }
        let is_text = kind.to_ascii_lowercase().starts_with("application/grpc-web-text");
        let found = match attempt::response_header("grpc-status") {
            Some(found) => found.trim().parse().ok(),
            None => status_of_body(is_text).or_else(|| status_of_http(status)),
        };
        found.is_some_and(|found| statuses.contains(&found))
    }
}

/// The status that an answer without one stands for (gRPC's doc/http-grpc-status-mapping.md); `None`
/// for success.
fn status_of_http(status: u16) -> Option<usize> {
    let name = match status {
        200..=299 => return None,
        400 => "internal",
        401 => "unauthenticated",
        403 => "permission-denied",
        404 => "unimplemented",
        429 | 502 | 503 | 504 => "unavailable",
        _ => "unknown",
    };
    NAMES.iter().position(|known| *known == name)
}

/// The bytes of a text in base64, as far as it is some. Servers encode and pad piece by piece.
fn decode(text: &[u8]) -> Vec<u8> {
    let groups = text.chunks_exact(4);
    groups.map_while(|group| BASE64_STANDARD.decode(group).ok()).flatten().collect()
}

fn status_of_body(is_text: bool) -> Option<usize> {
    if is_text {
        let bytes = decode(&attempt::response_body(0, u32::MAX));
        return status_in(|offset, length| {
            bytes
                .get(offset as usize..)
                .unwrap_or_default()
                .iter()
                .take(length as usize)
                .copied()
                .collect()
        });
    }
    // Messages are stepped over, and don't cross into the guest.
    status_in(attempt::response_body)
}

/// A frame: a byte of flags, four of its length, and so many more.
const HEAD: u32 = 5;
const TRAILERS: u8 = 0x80;
const COMPRESSED: u8 = 0x01;
/// More than trailers may have: what is longer is none.
const LONGEST: u32 = 64 << 10;

/// The status in the frame with the trailers.
fn status_in(read: impl Fn(u32, u32) -> Vec<u8>) -> Option<usize> {
    let mut offset = 0_u32;
    loop {
        let head: [u8; HEAD as usize] = read(offset, HEAD).try_into().ok()?;
        let [flags, length @ ..] = head;
        let length = u32::from_be_bytes(length);
        offset = offset.checked_add(HEAD)?;
        if flags & TRAILERS == 0 {
            offset = offset.checked_add(length)?;
            continue;
        }
        if flags & COMPRESSED != 0 || length > LONGEST {
            return None;
        }
        let trailers = String::from_utf8_lossy(&read(offset, length)).into_owned();
        return trailers.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case("grpc-status").then(|| value.trim().parse().ok())?
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(body: &[u8]) -> Option<usize> {
        status_in(|offset, length| {
            let rest = body.get(offset as usize..).unwrap_or_default();
            rest[..rest.len().min(length as usize)].to_vec()
        })
    }

    #[test]
    fn the_status_is_in_the_trailers_behind_all_messages() {
        assert_eq!(status(b"\x80\0\0\0\x10grpc-status:14\r\n"), Some(14));
        assert_eq!(status(b"\0\0\0\0\x03abc\0\0\0\0\0\x80\0\0\0\x10Grpc-Status: 8\r\n"), Some(8));
        assert_eq!(status(b"\x80\0\0\0\x1egrpc-message:no\r\ngrpc-status:0"), Some(0));
    }

    #[test]
    fn a_body_without_trailers_has_none() {
        for body in [
            &b""[..],
            b"\0\0\0\0\x03abc",
            b"\0\xff\xff\xff\xffabc",
            b"\x81\0\0\0\x10grpc-status:14\r\n",
            b"\x80\xff\xff\xff\xffgrpc-status:14\r\n",
            b"\x80\0\0\0\x10grpc-message:14\r\n",
            b"\x80\0\0",
        ] {
            assert_eq!(status(body), None, "{body:?}");
        }
    }

    #[test]
    fn texts_are_decoded_one_behind_the_other() {
        assert_eq!(decode(b"Zm9vYmE="), b"fooba");
        assert_eq!(decode(b"Zg==Zm8=Zm9v"), b"ffofoo");
        assert_eq!(decode(b"Zm9v!m9vZm9v"), b"foo");
        assert_eq!(decode(b"Zm9"), b"");
    }
}
