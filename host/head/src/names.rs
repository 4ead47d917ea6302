//! Names of fields.

use http::HeaderName;

macro_rules! usual {
    ($($name:literal)*) => {
        const TEXTS: [&str; [$($name),*].len()] = [$($name),*];
        static NAMES: [HeaderName; TEXTS.len()] = [$(HeaderName::from_static($name)),*];
    };
}

// Usual names, the shorter ones first, and of a length the most usual ones. `http` takes several
// times as long to find one of those that it knows, and allocates for any other.
usual! {
    "te"
    "via" "age"
    "host" "date" "vary" "etag"
    "accept" "server" "cookie" "origin"
    "referer" "alt-svc"
    "location"
    "sec-ch-ua" "x-real-ip"
    "user-agent" "connection" "set-cookie" "tracestate"
    "traceparent"
    "content-type" "x-request-id"
    "cache-control" "authorization" "last-modified" "accept-ranges" "if-none-match"
    "content-length" "sec-fetch-dest" "sec-fetch-mode" "sec-fetch-site" "sec-fetch-user"
    "accept-encoding" "accept-language" "x-forwarded-for"
    "content-encoding" "sec-ch-ua-mobile" "x-forwarded-host" "x-forwarded-port" "x-requested-with"
    "transfer-encoding" "x-forwarded-proto" "if-modified-since"
    "sec-ch-ua-platform"
    "x-content-type-options"
    "strict-transport-security" "upgrade-insecure-requests"
}

const LONGEST: usize = TEXTS[TEXTS.len() - 1].len();

/// The place of the first one that is at least so long.
const PLACES: [usize; LONGEST + 2] = {
    let mut places = [TEXTS.len(); LONGEST + 2];
    let mut place = TEXTS.len();
    while place > 0 {
        place -= 1;
        let mut length = 0;
        while length <= TEXTS[place].len() {
            places[length] = place;
            length += 1;
        }
    }
    places
};

/// A name, in lower case. `None`: it is none, or too long for one.
pub fn field_name(bytes: &[u8]) -> Option<HeaderName> {
    if let Some(&[from, to]) = PLACES.get(bytes.len()..).and_then(<[_]>::first_chunk) {
        let mut usual = TEXTS[from..to].iter().zip(&NAMES[from..to]);
        if let Some((_, name)) = usual.find(|(text, _)| is_same(bytes, text.as_bytes())) {
            return Some(name.clone());
        }
    }
    HeaderName::from_bytes(bytes).ok()
}

/// Puts ASCII into lower case: `make_ascii_lowercase` takes eight instructions for each letter of
/// what is as short as names are.
#[inline]
pub(crate) fn make_lower(name: &mut [u8]) {
    if let Some(last) = name.last_chunk_mut() {
        *last = lower(*last);
        name.as_chunks_mut().0.iter_mut().for_each(|word| *word = lower(*word));
    } else {
        name.iter_mut().for_each(|byte| *byte |= u8::from(byte.is_ascii_uppercase()) << 5);
    }
}

/// Of eight letters at once.
#[inline]
fn lower(word: [u8; 8]) -> [u8; 8] {
    let word = u64::from_ne_bytes(word);
    let each = |byte: u8| u64::from_ne_bytes([byte; 8]);
    // The upper bit of each byte says whether it is at least `A`, and more than `Z`.
    let (from_a, beyond_z) =
        (word.wrapping_add(each(0x80 - b'A')), word.wrapping_add(each(0x7f - b'Z')));
    (word | (from_a & !beyond_z & each(0x80)) >> 2).to_ne_bytes()
}

/// The same as `eq_ignore_ascii_case`, at a fraction of the price, for a token and a name of as
/// many letters and `-`: both are what they are in lower case if this bit is set.
#[inline]
fn is_same(token: &[u8], name: &[u8]) -> bool {
    const BIT: u8 = 0x20;
    // Eight or four at a time; the last of them may have been looked at before.
    if let (Some(last), Some(of_last)) = (token.last_chunk(), name.last_chunk()) {
        let is_same = |bytes: &[u8; 8], of: &[u8; 8]| {
            u64::from_ne_bytes(*bytes) | u64::from_ne_bytes([BIT; 8]) == u64::from_ne_bytes(*of)
        };
        let words = token.as_chunks().0.iter().zip(name.as_chunks().0);
        return is_same(last, of_last) && words.into_iter().all(|(bytes, of)| is_same(bytes, of));
    }
    if let ([a, b, c, d, ..], [e, f, g, h, ..]) = (token, name)
        && let (Some(last), Some(of_last)) = (token.last_chunk(), name.last_chunk())
    {
        let is_same = |bytes: [u8; 4], of: [u8; 4]| {
            u32::from_ne_bytes(bytes) | u32::from_ne_bytes([BIT; 4]) == u32::from_ne_bytes(of)
        };
        return is_same([*a, *b, *c, *d], [*e, *f, *g, *h]) && is_same(*last, *of_last);
    }
    token.iter().zip(name).all(|(byte, of)| byte | BIT == *of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_name_is_the_same_as_any_other_way_to_make_it() {
        assert!(TEXTS.is_sorted_by_key(|text| text.len()));
        for (text, name) in TEXTS.iter().zip(&NAMES) {
            let upper = text.to_ascii_uppercase();
            for written in [text.as_bytes(), upper.as_bytes()] {
                assert_eq!(field_name(written).as_ref(), Some(name));
                assert_eq!(HeaderName::from_bytes(written).as_ref().ok(), Some(name));
            }
            for at in 0..text.len() {
                let mut other = text.as_bytes().to_owned();
                other[at] = b'!';
                assert_eq!(field_name(&other), HeaderName::from_bytes(&other).ok());
            }
        }
        assert_eq!(field_name(b"Host"), Some(http::header::HOST));
        assert_eq!(field_name(b"X-Other").expect("a name").as_str(), "x-other");
        for none in ["", "a b", "\u{e4}", "x:"] {
            assert_eq!(field_name(none.as_bytes()), None, "{none}");
        }
    }
}
