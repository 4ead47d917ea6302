//! What the fields of a head say of its body and its connection.

use http::{HeaderName, HeaderValue, header};

/// What they say, field by field.
#[derive(Default)]
pub(crate) struct BodyFields {
    pub(crate) length: Option<u64>,
    /// Whether all transfer codings are one `chunked`.
    pub(crate) chunked: Option<bool>,
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
}

/// What a field says.
pub(crate) enum Noted {
    /// Something new: it goes on.
    New,
    /// This length, in more digits than it takes: they could be read in two ways.
    Length(u64),
    /// The same again.
    Again,
}

/// What is wrong with a `Content-Length`.
pub(crate) enum LengthFlaw {
    NoNumber,
    Different,
}

impl BodyFields {
    #[inline]
    pub(crate) fn note(
        &mut self,
        name: &HeaderName,
        value: &HeaderValue,
    ) -> Result<Noted, LengthFlaw> {
        match *name {
            header::CONTENT_LENGTH => return self.note_length(value.as_bytes()),
            header::TRANSFER_ENCODING => self.note_coding(value.as_bytes()),
            header::CONNECTION => self.note_connection(value.as_bytes()),
            _ => {}
        }
        Ok(Noted::New)
    }

    pub(crate) fn note_coding(&mut self, value: &[u8]) {
        let is_first = self.chunked.is_none();
        self.chunked = Some(is_first && value.eq_ignore_ascii_case(b"chunked"));
    }

    pub(crate) fn note_connection(&mut self, value: &[u8]) {
        // Said by half of all clients, and alone.
        if value == b"keep-alive" {
            self.keep_alive = true;
            return;
        }
        for option in items(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    pub(crate) fn note_length(&mut self, value: &[u8]) -> Result<Noted, LengthFlaw> {
        let is_first = self.length.is_none();
        let mut count = 0;
        // Several that agree, in one field or in more, are one (RFC 9112, section 6.3).
        for item in items(value) {
            let length = plain_number(item).ok_or(LengthFlaw::NoNumber)?;
            if *self.length.get_or_insert(length) != length {
                return Err(LengthFlaw::Different);
            }
            count += 1;
        }
        let is_plain = count == 1 && (value.len() == 1 || !value.starts_with(b"0"));
        Ok(match self.length {
            Some(length) if is_first && !is_plain => Noted::Length(length),
            _ if is_first => Noted::New,
            _ => Noted::Again,
        })
    }

    /// Whether the other side takes another exchange on this connection.
    pub(crate) fn keeps_connection(&self, is_http_11: bool) -> bool {
        !self.close && (is_http_11 || self.keep_alive)
    }
}

/// The items of a list.
pub(crate) fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// A number of digits and nothing else.
pub(crate) fn plain_number(text: &[u8]) -> Option<u64> {
    let (first, others) = text.split_first()?;
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    others
        .iter()
        .try_fold(digit(first)?, |number, byte| number.checked_mul(10)?.checked_add(digit(byte)?))
}
