//! Tells paths that programs read in different ways.

/// Whether a segment of a path is `.` or `..`, raw or encoded.
///
/// A program behind may decode the path, take `\` for a separator, or cut off a segment's
/// parameters, before it resolves dot segments. What it then serves is another path than the one
/// that the route was chosen by.
pub(super) fn has_dot_segment(path: &str) -> bool {
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
    fn what_is_no_path_has_none() {
        for target in ["*", "", "..", "."] {
            assert!(!has_dot_segment(target), "{target}");
        }
    }
}
