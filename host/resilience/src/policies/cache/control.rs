//! `Cache-Control` of requests and responses (RFC 9111, section 5.2; RFC 5861), read so that what
//! is not clear allows less.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};

/// The longest time that a directive can say: larger numbers mean this one (section 1.2.2).
const LONGEST: u64 = 1 << 31;

/// What a message says in `Cache-Control`, as far as a shared cache follows it.
///
/// A directive that names fields, such as `private="x-user"`, counts as one that names none: it
/// then allows less, which sections 5.2.2.4 and 5.2.2.7 permit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Directives {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) only_if_cached: bool,
    pub(super) public: bool,
    pub(super) private: bool,
    pub(super) must_understand: bool,
    pub(super) must_revalidate: bool,
    pub(super) proxy_revalidate: bool,
    pub(super) max_age: Option<Duration>,
    pub(super) s_maxage: Option<Duration>,
    pub(super) min_fresh: Option<Duration>,
    /// Without a number, however stale.
    pub(super) max_stale: Option<Duration>,
    pub(super) stale_if_error: Option<Duration>,
    pub(super) stale_while_revalidate: Option<Duration>,
}

impl Directives {
    /// Those of a message.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for line in headers.get_all(header::CACHE_CONTROL) {
            directives.read(line);
        }
        directives
    }

    /// Those of a request. `Pragma: no-cache` is that of old clients (section 5.4).
    pub(super) fn of_request(headers: &HeaderMap) -> Self {
        let mut directives = Self::of(headers);
        if !headers.contains_key(header::CACHE_CONTROL)
            && let Some(pragma) = headers.get(header::PRAGMA)
        {
            let mut options = pragma.as_bytes().split(|byte| *byte == b',');
            directives.no_cache =
                options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"no-cache"));
        }
        directives
    }

    fn read(&mut self, line: &HeaderValue) {
        for item in Items(line.as_bytes()) {
            let (name, value) = match item.iter().position(|byte| *byte == b'=') {
                Some(at) => (item[..at].trim_ascii(), Some(item[at + 1..].trim_ascii())),
                None => (item, None),
            };
            let name = name.to_ascii_lowercase();
            match &name[..] {
                b"no-store" => self.no_store = true,
                b"no-cache" => self.no_cache = true,
                b"only-if-cached" => self.only_if_cached = true,
                b"public" => self.public = true,
                b"private" => self.private = true,
                b"must-understand" => self.must_understand = true,
                b"must-revalidate" => self.must_revalidate = true,
                b"proxy-revalidate" => self.proxy_revalidate = true,
                // A time that can't be read is over (section 4.2.1).
                b"max-age" => shortest(&mut self.max_age, time(value).unwrap_or_default()),
                b"s-maxage" => shortest(&mut self.s_maxage, time(value).unwrap_or_default()),
                b"min-fresh" => {
                    // The longest: it is the client's wish that allows less.
                    let asked = time(value).unwrap_or_default();
                    self.min_fresh = Some(self.min_fresh.map_or(asked, |other| other.max(asked)));
                }
                b"max-stale" => shortest(
                    &mut self.max_stale,
                    match value {
                        None => Duration::from_secs(LONGEST),
                        value => time(value).unwrap_or_default(),
                    },
                ),
                b"stale-if-error" => {
                    shortest(&mut self.stale_if_error, time(value).unwrap_or_default());
                }
                b"stale-while-revalidate" => {
                    shortest(&mut self.stale_while_revalidate, time(value).unwrap_or_default());
                }
                _ => {}
            }
        }
    }
}

/// Of several, the one that allows least (section 4.2.1).
fn shortest(time: &mut Option<Duration>, another: Duration) {
    *time = Some(time.map_or(another, |time| time.min(another)));
}

/// Seconds, as a token or, which is not to be sent but is, as a quoted string.
fn time(value: Option<&[u8]>) -> Option<Duration> {
    let value = value?;
    let bare = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    seconds(bare.unwrap_or(value))
}

/// A number of seconds (`delta-seconds`, section 1.2.2).
pub(super) fn seconds(digits: &[u8]) -> Option<Duration> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // What does not fit is longer than the longest.
    let number = std::str::from_utf8(digits).ok()?.parse().unwrap_or(LONGEST);
    Some(Duration::from_secs(number.min(LONGEST)))
}

/// The items of a list, which commas part, but not those within quotes.
struct Items<'a>(&'a [u8]);

impl<'a> Iterator for Items<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.0.is_empty() {
            let (mut is_quoted, mut is_escaped) = (false, false);
            let end = self.0.iter().position(|byte| {
                match byte {
                    _ if is_escaped => is_escaped = false,
                    b'\\' if is_quoted => is_escaped = true,
                    b'"' => is_quoted = !is_quoted,
                    _ => return *byte == b',' && !is_quoted,
                }
                false
            });
            let (item, rest) = match end {
                Some(end) => (&self.0[..end], &self.0[end + 1..]),
                None => (self.0, &self.0[..0]),
            };
            self.0 = rest;
            let item = item.trim_ascii();
            if !item.is_empty() {
                return Some(item);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(lines: &[&str]) -> Directives {
        let values = lines.iter().map(|line| HeaderValue::from_str(line).unwrap());
        Directives::of(&values.map(|value| (header::CACHE_CONTROL, value)).collect())
    }

    #[test]
    fn names_ignore_case_and_lists_may_be_split_and_have_holes() {
        let said = read(&["Public , ,MAX-AGE=5", "s-maxage=\"7\" ,", "unknown=\"a, no-store\""]);
        let expected = Directives {
            public: true,
            max_age: Some(Duration::from_secs(5)),
            s_maxage: Some(Duration::from_secs(7)),
            ..Directives::default()
        };
        assert_eq!(said, expected);
    }

    #[test]
    fn what_is_not_clear_allows_less() {
        let max_age = |lines: &[&str]| read(lines).max_age.map(|time| time.as_secs());
        assert_eq!(max_age(&["max-age=9", "max-age=3"]), Some(3), "the shorter of two");
        for nonsense in ["max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=a"] {
            assert_eq!(max_age(&[nonsense]), Some(0), "{nonsense}");
        }
        assert_eq!(max_age(&["max-age=99999999999999999999999"]), Some(LONGEST));
        assert!(read(&["private=\"x-user\""]).private && read(&["no-cache=\"a,b\""]).no_cache);
        assert_eq!(read(&["max-stale"]).max_stale, Some(Duration::from_secs(LONGEST)));
        assert_eq!(read(&["max-stale=x"]).max_stale, Some(Duration::ZERO));
    }

    proptest! {
        #[test]
        fn no_line_is_too_odd(line in "[ -~]{0,64}") {
            if let Ok(value) = HeaderValue::from_str(&line) {
                let mut directives = Directives::default();
                directives.read(&value);
                // A second reading of the same can't allow more.
                let before = directives;
                directives.read(&value);
                prop_assert_eq!(before, directives);
            }
        }
    }
}
