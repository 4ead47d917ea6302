//! How much of a request body is waited for before anybody is asked.

use super::kept::KeptBody;

/// How much is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyPart {
    /// All of it.
    Whole,
    /// Something.
    FirstByte,
    /// The first message of a call by gRPC: more may depend on what the server says to it.
    FirstMessage,
}

/// Before each message of gRPC: whether it is compressed, and its length.
const PREFIX: usize = 5;

impl BodyPart {
    /// Whether what has come, from the beginning, has it. (All of it has come when nothing else
    /// does.)
    pub(super) fn is_in(self, kept: &KeptBody) -> bool {
        match self {
            Self::Whole => false,
            Self::FirstByte => kept.length() > 0,
            Self::FirstMessage => first_message(kept).is_some_and(|end| kept.length() >= end),
        }
    }
}

/// Where the first message ends. `None`: its prefix is not there.
fn first_message(kept: &KeptBody) -> Option<usize> {
    let mut prefix = [0; PREFIX];
    for (position, byte) in prefix.iter_mut().enumerate() {
        *byte = *kept.at(position)?.first()?;
    }
    let [_, length @ ..] = prefix;
    usize::try_from(u32::from_be_bytes(length)).ok()?.checked_add(PREFIX)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use bytes::Bytes;

    use super::*;

    /// How many bytes of this, coming one by one, it takes.
    fn needs(part: BodyPart, body: &'static [u8]) -> Option<usize> {
        let mut kept = KeptBody::new(Rc::default());
        (0..=body.len()).find(|&length| {
            if length > 0 {
                assert!(kept.push(&Bytes::from_static(&body[length - 1..length])));
            }
            part.is_in(&kept)
        })
    }

    #[test]
    fn a_message_is_there_with_its_last_byte() {
        for (body, length) in [
            (&b"\0\0\0\0\x03oneand more"[..], Some(8)),
            // Compressed, and an empty one.
            (b"\x01\0\0\0\x02ab", Some(7)),
            (b"\0\0\0\0\0\0\0\0\0\0", Some(5)),
            (b"\0\0\0\x01\0abc", None),
            (b"\0\xff\xff\xff\xffabc", None),
            (b"\0\0\0", None),
        ] {
            assert_eq!(needs(BodyPart::FirstMessage, body), length, "{body:?}");
        }
        assert_eq!(needs(BodyPart::FirstByte, b"ab"), Some(1));
        assert_eq!(needs(BodyPart::Whole, b"ab"), None);
    }
}
