//! What may come after a body (RFC 9110, section 6.5.1).

use http::{HeaderName, header};

use crate::head::{is_forwarded, is_shadow};

/// Which trailers the other side gets, of those that may be some.
#[derive(Debug)]
pub(super) enum TrailerRule {
    /// Those that the head announces.
    Announced(Option<Box<AnnouncedTrailers>>),
    /// All, since it said that it takes them.
    All,
}

/// What the `Trailer` fields of a head say, as one list.
#[derive(Debug, Default)]
pub(super) struct AnnouncedTrailers(Vec<u8>);

impl TrailerRule {
    /// A `Trailer` field of the head.
    pub(super) fn announce(&mut self, list: &[u8]) {
        if let Self::Announced(lists) = self {
            let AnnouncedTrailers(all) = &mut **lists.get_or_insert_default();
            all.extend_from_slice(list);
            all.push(b',');
        }
    }

    pub(super) fn lets_pass(&self, name: &HeaderName) -> bool {
        let is_wanted = match self {
            Self::Announced(lists) => lists.as_ref().is_some_and(|lists| lists.have(name)),
            Self::All => true,
        };
        is_wanted && may_trail(name)
    }
}

impl AnnouncedTrailers {
    fn have(&self, name: &HeaderName) -> bool {
        let mut names = self.0.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        names.any(|announced| announced.eq_ignore_ascii_case(name.as_str().as_bytes()))
    }
}

/// Whether it is nothing that a recipient may have acted on before it has read the trailers, or
/// that is meant for one connection only.
pub fn may_trail(name: &HeaderName) -> bool {
    const NOT: [HeaderName; 21] = [
        header::AUTHORIZATION,
        header::CACHE_CONTROL,
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::EXPECT,
        header::FORWARDED,
        header::HOST,
        header::MAX_FORWARDS,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::RANGE,
        header::SET_COOKIE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::VIA,
        header::WWW_AUTHENTICATE,
    ];
    let text = name.as_str().as_bytes();
    !NOT.contains(name) && !is_forwarded(text) && !is_shadow(text)
}
