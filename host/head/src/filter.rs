//! A quick look at names.

/// Names that are looked for together.
#[derive(Debug)]
pub struct NameSet {
    pub(crate) names: &'static [&'static str],
    pub(crate) filter: NameFilter,
}

impl NameSet {
    /// Of these names, in lower case.
    pub const fn new(names: &'static [&'static str]) -> Self {
        let (mut filter, mut at) = (NameFilter(0), 0);
        while at < names.len() {
            filter.0 |= bit(names[at].as_bytes());
            at += 1;
        }
        Self { names, filter }
    }
}

/// Which names a head may have, in one word: most questions are about names that it does not have.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NameFilter(u64);

impl NameFilter {
    /// Adds a name. Returns whether it may have been there.
    #[inline]
    pub(crate) fn add(&mut self, name: &[u8]) -> bool {
        let had = self.may_have(name);
        self.0 |= bit(name);
        had
    }

    /// `false`: none of them is there.
    #[inline]
    pub(crate) fn may_have_any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }

    /// `false`: the name is not there.
    #[inline]
    pub(crate) fn may_have(self, name: &[u8]) -> bool {
        self.0 & bit(name) != 0
    }
}

/// Of 64, by the ends and the length of a name: those that are looked for in each head have none of
/// the bits of those that most heads have.
#[inline]
const fn bit(name: &[u8]) -> u64 {
    let &[first, .., last] = name else { return 1 };
    1 << ((11 * first as usize + last as usize + 3 * name.len()) % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_each_head_is_asked_for_do_not_look_like_usual_ones() {
        let mut usual = NameFilter::default();
        for name in [
            "content-type",
            "content-length",
            "content-encoding",
            "date",
            "server",
            "cache-control",
            "etag",
            "last-modified",
            "vary",
            "set-cookie",
            "accept-ranges",
            "strict-transport-security",
            "x-request-id",
            "x-powered-by",
        ] {
            usual.add(name.as_bytes());
            assert!(usual.may_have(name.as_bytes()), "{name}");
        }
        for name in [
            "connection",
            "keep-alive",
            "proxy-connection",
            "proxy-authenticate",
            "proxy-authorization",
            "te",
            "transfer-encoding",
            "upgrade",
            "via",
            "grpc-status",
            "grpc-retry-pushback-ms",
            "retry-after",
            "retry-after-ms",
            "x-should-retry",
            "proxy-status",
        ] {
            assert!(!usual.may_have(name.as_bytes()), "{name}");
        }
    }
}
