//! Paths that programs read in different ways.
//!
//! A program behind may decode a path, take `\` for a separator, leave out empty segments, and cut
//! off a segment's parameters. What it then serves must not be another route's.

use std::borrow::Cow;

/// A path as the most lenient of programs reads it, so that it leads to the same route however it
/// is spelled: each escape decoded once, nothing but `/` between segments, none of them empty, and
/// without what follows a `;` in a segment.
pub(crate) fn canonical(path: &str) -> Cow<'_, str> {
    let mut last = 0;
    let is_canonical = path.bytes().all(|byte| {
        let is_empty = byte == b'/' && last == b'/';
        last = byte;
        !is_empty && !matches!(byte, b'%' | b';' | b'\\')
    });
    if is_canonical { path.into() } else { respelled(path).into() }
}

#[cold]
fn respelled(path: &str) -> String {
    let bytes: Vec<u8> = decoded(path.as_bytes()).collect();
    let mut respelled = Vec::with_capacity(path.len());
    for segment in bytes.split(|byte| matches!(byte, b'/' | b'\\')) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        if !name.is_empty() {
            respelled.push(b'/');
            respelled.extend_from_slice(name);
        }
    }
    String::from_utf8_lossy(&respelled).into_owned()
}

/// Whether a segment of a path is `.` or `..`, raw or encoded.
///
/// A program behind may resolve it, after all that [`canonical`] does. What it then serves is
/// another path than the one that the route was chosen by.
pub(crate) fn has_dot_segment(path: &str) -> bool {
    // Most paths have neither, so no dot segment.
    path.bytes().any(|byte| byte == b'.' || byte == b'%') && is_dotted(path.as_bytes())
}

/// What is known of a segment so far.
enum Segment {
    /// So many dots and nothing else.
    Dots(usize),
    /// The same, and its parameters have begun.
    DotsAndParameters(usize),
    Other,
}

#[cold]
fn is_dotted(path: &[u8]) -> bool {
    let is_dot = |segment: &Segment| {
        matches!(segment, Segment::Dots(1 | 2) | Segment::DotsAndParameters(1 | 2))
    };
    let mut segment = Segment::Other;
    for byte in decoded(path) {
        let separates = byte == b'/' || byte == b'\\';
        if separates && is_dot(&segment) {
            return true;
        }
        segment = match (byte, segment) {
            (b'/' | b'\\', _) => Segment::Dots(0),
            (b'.', Segment::Dots(dots)) => Segment::Dots(dots + 1),
            (b';', Segment::Dots(dots)) => Segment::DotsAndParameters(dots),
            (_, parameters @ Segment::DotsAndParameters(_)) => parameters,
            _ => Segment::Other,
        };
    }
    is_dot(&segment)
}

/// The bytes of a path, each escape decoded once; one that is not valid stands for itself.
fn decoded(path: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = path;
    std::iter::from_fn(move || {
        let (&first, after) = rest.split_first()?;
        rest = after;
        if first == b'%'
            && let Some(&[high, low]) = after.first_chunk()
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            rest = &after[2..];
            return Some(high << 4 | low);
        }
        Some(first)
    })
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, by the words of the reference: decode, separate, cut, compare.
    fn plainly(path: &str) -> bool {
        let mut bytes = Vec::new();
        let mut rest = path;
        while let Some(first) = rest.chars().next() {
            let escape = rest.strip_prefix('%').and_then(|rest| rest.get(..2));
            let escaped = escape.filter(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()));
            if let Some(escaped) = escaped {
                bytes.push(u8::from_str_radix(escaped, 16).unwrap());
                rest = &rest[3..];
            } else {
                bytes.extend(first.to_string().bytes());
                rest = &rest[first.len_utf8()..];
            }
        }
        let segments = bytes.split(|byte| b"/\\".contains(byte)).skip(1);
        let mut names = segments.map(|segment| segment.split(|byte| *byte == b';').next().unwrap());
        names.any(|name| [&b"."[..], b".."].contains(&name))
    }

    proptest! {
        #[test]
        fn it_is_what_decoding_separating_and_cutting_find(
            path in "/(\\.|/|\\\\|;|a|%2e|%2E|%2f|%5C|%3b|%|2|e|ä){0,12}",
        ) {
            prop_assert_eq!(has_dot_segment(&path), plainly(&path), "{}", path);
        }
    }

    #[test]
    fn a_path_is_the_same_however_it_is_spelled() {
        for spelled in [
            "/admin/x",
            "/%61dmin/x",
            "/admi%6E/x",
            "//admin///x",
            "/admin%2Fx",
            "/admin%2fx",
            "/admin\\x",
            "/admin%5cx",
            "/admin;v=1/x",
            "/admin%3Bv=1/x;y",
            "/;/admin/x",
            "/admin/x/;",
            "/admin/%2F/x",
        ] {
            assert_eq!(canonical(spelled).trim_end_matches('/'), "/admin/x", "{spelled}");
        }
        for other in ["/Admin/x", "/%2561dmin/x", "/admin/x%", "/admin/x%2", "/admin/%zz"] {
            assert_ne!(canonical(other), "/admin/x", "{other}");
        }
        assert!(matches!(canonical("/admin/x.y?"), Cow::Borrowed(_)));
        assert_eq!(canonical("/%C3%A4"), "/ä");
        assert_eq!(canonical("*"), "*");
        assert_eq!(canonical("/;x"), "");
    }

    proptest! {
        #[test]
        fn what_is_canonical_stays_so(path in "/(\\.|/|\\\\|;|a|%2e|%2f|%5C|%3b|%|ä){0,12}") {
            let once = canonical(&path).into_owned();
            // An escape of an escape is one more.
            prop_assume!(!once.contains('%'));
            prop_assert_eq!(&canonical(&once), &once);
        }
    }

    #[test]
    fn what_is_no_path_has_none() {
        for target in ["*", "", "..", "."] {
            assert!(!has_dot_segment(target), "{target}");
        }
    }
}
