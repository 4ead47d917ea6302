//! One line: its fields as JSON, formatted into a buffer that the thread keeps.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fusebox_resilience::ComponentId;
use http::StatusCode;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use super::level::Level;

/// What is kept of a text from outside.
pub(crate) const MAX_TEXT: usize = 4 << 10;

/// A line under construction.
#[derive(Debug)]
pub struct Line<'a> {
    buffer: &'a mut Vec<u8>,
    last_time: &'a mut LastTime,
}

impl Line<'_> {
    /// Adds a field. `key` is a plain word in snake_case, and no field of the line yet.
    pub fn field(&mut self, key: &'static str, value: impl Serialize) -> &mut Self {
        self.key(key);
        let start = self.buffer.len();
        let mut json = Serializer::with_formatter(&mut *self.buffer, VisibleText);
        if value.serialize(&mut json).is_err() {
            // No value of ours fails. If another does, the rest of the line is still written.
            self.buffer.truncate(start);
            self.buffer.extend_from_slice(b"null");
        }
        self
    }

    /// Adds a field if there is a value.
    pub fn maybe(&mut self, key: &'static str, value: Option<impl Serialize>) -> &mut Self {
        match value {
            Some(value) => self.field(key, value),
            None => self,
        }
    }

    /// Adds what somebody else wrote, whatever its bytes and length.
    pub fn text(&mut self, key: &'static str, bytes: &[u8]) -> &mut Self {
        self.key(key);
        self.buffer.push(b'"');
        self.text_value(bytes);
        self.buffer.push(b'"');
        self
    }

    /// Adds a text that has nothing to escape.
    pub(crate) fn own(&mut self, key: &'static str, text: &str) -> &mut Self {
        self.key(key);
        self.piece("\"").piece(text).piece("\"")
    }

    /// Adds what somebody else wrote, without quotes around it.
    pub(crate) fn text_value(&mut self, bytes: &[u8]) -> &mut Self {
        if bytes.is_empty() {
            return self;
        }
        // Nearly all of it needs no escape.
        if bytes.len() <= MAX_TEXT && is_plain(bytes) {
            self.buffer.extend_from_slice(bytes);
        } else {
            self.foreign(bytes);
        }
        self
    }

    #[cold]
    fn foreign(&mut self, bytes: &[u8]) {
        match bytes.get(..MAX_TEXT) {
            Some(start) if bytes.len() > MAX_TEXT => {
                self.escaped(&format!("{}…", String::from_utf8_lossy(start)));
            }
            _ => self.escaped(&String::from_utf8_lossy(bytes)),
        }
    }

    #[cold]
    fn escaped(&mut self, text: &str) {
        let start = self.buffer.len();
        let mut json = Serializer::with_formatter(&mut *self.buffer, VisibleText);
        // A `Vec` takes everything. Its quotes are the caller's.
        let _ = text.serialize(&mut json);
        self.buffer.pop();
        self.buffer.remove(start);
    }

    /// Adds a text of our own, of whatever pieces. (As a value it would go through serde piece by
    /// piece, which took a third of a line.)
    pub(crate) fn words(&mut self, key: &'static str, words: impl fmt::Display) -> &mut Self {
        self.key(key);
        self.buffer.push(b'"');
        // A `Vec` takes everything.
        let _ = write!(Words(self), "{words}");
        self.buffer.push(b'"');
        self
    }

    /// Adds where something was reached. Every line about an attempt has one, so the usual kind is
    /// written without the formatting machinery, which took over a quarter of such a line.
    pub(crate) fn address(&mut self, address: SocketAddr) -> &mut Self {
        let SocketAddr::V4(v4) = address else {
            return self.field("address", address);
        };
        let [a, b, c, d] = v4.ip().octets();
        self.piece(",\"address\":\"").number(a.into());
        for octet in [b, c, d] {
            self.piece(".").number(octet.into());
        }
        self.piece(":").number(v4.port().into()).piece("\"")
    }

    /// Adds a piece of the line as it is.
    pub(crate) fn piece(&mut self, piece: &str) -> &mut Self {
        self.buffer.extend_from_slice(piece.as_bytes());
        self
    }

    /// Adds a number's digits.
    #[inline]
    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        match number {
            // Half of them, at a third of the price.
            0..10 => self.buffer.push(b'0' + number as u8),
            _ => _ = self.piece(itoa::Buffer::new().format(number)),
        }
        self
    }

    /// Adds the three digits of a status.
    #[inline]
    pub(crate) fn status(&mut self, status: StatusCode) -> &mut Self {
        let status = status.as_u16();
        let digits = [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
        self.buffer.extend_from_slice(&digits);
        self
    }

    /// A time as a line has it.
    pub(crate) fn time_text(&mut self, since: SinceEpoch) -> TimeText {
        self.last_time.text_of(since)
    }

    /// Adds a time with its quotes.
    pub(crate) fn time(&mut self, time: &TimeText) -> &mut Self {
        self.buffer.extend_from_slice(time);
        self
    }

    /// What `add` adds, to be added again.
    pub(crate) fn noting(&mut self, add: impl FnOnce(&mut Self) -> &mut Self) -> Range<usize> {
        let start = self.buffer.len();
        add(self);
        start..self.buffer.len()
    }

    /// Adds a part of this line again.
    pub(crate) fn again(&mut self, part: Range<usize>) -> &mut Self {
        self.buffer.extend_from_within(part);
        self
    }

    /// Adds what is JSON already.
    pub(crate) fn json(&mut self, key: &'static str, json: &str) -> &mut Self {
        self.key(key);
        // Whatever of it is not ASCII is within quotes.
        let _ = VisibleText.write_string_fragment(&mut *self.buffer, json);
        self
    }

    pub(crate) fn component(&mut self, component: &ComponentId) -> &mut Self {
        self.field("component", &*component.name)
            .field("digest", &*component.digest)
            .field("generation", component.generation)
    }

    pub(crate) fn open(&mut self, key: &'static str) -> &mut Self {
        self.key(key);
        self.buffer.push(b'{');
        self
    }

    pub(crate) fn close(&mut self) {
        self.buffer.push(b'}');
    }

    fn key(&mut self, key: &'static str) {
        if self.buffer.last() != Some(&b'{') {
            self.buffer.push(b',');
        }
        self.buffer.push(b'"');
        self.buffer.extend_from_slice(key.as_bytes());
        self.buffer.extend_from_slice(b"\":");
    }
}

/// Writes into a line what may need escapes.
struct Words<'a, 'b>(&'a mut Line<'b>);

impl fmt::Write for Words<'_, '_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if is_plain(piece.as_bytes()) {
            self.0.piece(piece);
        } else {
            self.0.escaped(piece);
        }
        Ok(())
    }
}

/// JSON without control characters: those that JSON allows, U+007F to U+009F, are commands to some
/// terminals, too.
struct VisibleText;

impl Formatter for VisibleText {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        if is_plain(fragment.as_bytes()) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some(at) = rest.find(|char| ('\u{7f}'..='\u{9f}').contains(&char)) {
            let (plain, control) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut characters = control.chars();
            if let Some(control) = characters.next() {
                write!(writer, "\\u{:04x}", u32::from(control))?;
            }
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Whether this may stand in a JSON string as it is, and is ASCII.
pub(crate) fn is_plain(bytes: &[u8]) -> bool {
    // Eight at a time; the last eight may have been looked at before. Texts are short.
    if let Some(last) = bytes.last_chunk() {
        let (words, _) = bytes.as_chunks();
        return words.iter().fold(plain_bytes(*last), |plain, word| plain & plain_bytes(*word))
            & HIGH
            == HIGH;
    }
    let word = match *bytes {
        [] => return true,
        [a] => [a; 8],
        [a, b] => [a, b, a, b, a, b, a, b],
        [a, b, c] => [a, b, c, a, b, c, b, c],
        // Four from the front and four from the back.
        [a, b, c, d, ..] => {
            let [.., e, f, g, h] = *bytes else { return true };
            [a, b, c, d, e, f, g, h]
        }
    };
    plain_bytes(word) & HIGH == HIGH
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = ONES << 7;

/// The high bit of each byte is set if all of them are ASCII and none is a control character, a
/// quote or a backslash.
#[inline]
fn plain_bytes(word: [u8; 8]) -> u64 {
    let word = u64::from_ne_bytes(word);
    // Sets the high bits of bytes that are at least `limit`. A sum may carry into the next byte
    // only from one that is not ASCII.
    let at_least = |word: u64, limit: u8| word.wrapping_add(ONES * u64::from(0x80 - limit));
    let is_not = |byte: u8| at_least(word ^ (ONES * u64::from(byte)), 1);
    at_least(word, 0x20) & is_not(b'"') & is_not(b'\\') & !(word | at_least(word, 0x7f))
}

/// What a thread formats with, kept from line to line.
#[derive(Default)]
pub(crate) struct Scratch {
    buffer: Vec<u8>,
    last_time: LastTime,
}

impl Scratch {
    pub(crate) fn with(use_it: impl FnOnce(&mut Self)) {
        thread_local! {
            static SCRATCH: RefCell<Scratch> = const {
                RefCell::new(Scratch { buffer: Vec::new(), last_time: LastTime::NONE })
            };
        }
        let mut use_it = Some(use_it);
        let _ = SCRATCH.try_with(|scratch| {
            if let Ok(mut scratch) = scratch.try_borrow_mut()
                && let Some(use_it) = use_it.take()
            {
                use_it(&mut scratch);
            }
        });
        // A value that logs while it is formatted finds the buffer in use, and a thread that is
        // ending has none any more: both get an empty one.
        if let Some(use_it) = use_it {
            use_it(&mut Self::default());
        }
    }

    /// A line of this time and level.
    pub(crate) fn line(
        &mut self,
        time: SystemTime,
        level: Level,
        message: impl fmt::Display,
        fields: impl FnOnce(&mut Line<'_>),
    ) -> &[u8] {
        self.written(|line| {
            let time = line.time_text(SinceEpoch::of(time));
            line.piece("\"time\":")
                .time(&time)
                .piece(",\"level\":\"")
                .piece(level.name())
                .piece("\"")
                .words("msg", message);
            fields(line);
        })
    }

    /// A line that has what is written between its braces.
    pub(crate) fn written(&mut self, write: impl FnOnce(&mut Line<'_>)) -> &[u8] {
        self.buffer.clear();
        self.buffer.push(b'{');
        write(&mut Line { buffer: &mut self.buffer, last_time: &mut self.last_time });
        self.buffer.extend_from_slice(b"}\n");
        &self.buffer
    }
}

/// A wall clock's time, since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SinceEpoch(Duration);

impl SinceEpoch {
    pub(crate) fn of(time: SystemTime) -> Self {
        // A clock that was never set may be before 1970.
        Self(time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    pub(crate) fn after(self, elapsed: Duration) -> Self {
        Self(self.0.saturating_add(elapsed))
    }
}

const DAY: u64 = 24 * 60 * 60;

/// A time with its quotes, as in `"2024-08-20T11:37:36.000000Z"`.
pub(crate) type TimeText = [u8; 29];

/// The last second that was formatted, and its day: nearly all lines are of the same as the line
/// before.
#[derive(Debug)]
pub(crate) struct LastTime {
    day: u64,
    second: u64,
    text: TimeText,
}

impl Default for LastTime {
    fn default() -> Self {
        Self::NONE
    }
}

impl LastTime {
    const NONE: Self =
        Self { day: u64::MAX, second: u64::MAX, text: *b"\"0000-00-00T00:00:00.000000Z\"" };

    /// In microseconds.
    pub(crate) fn text_of(&mut self, time: SinceEpoch) -> TimeText {
        let SinceEpoch(since) = time;
        if self.second != since.as_secs() {
            self.turn(since.as_secs());
        }
        let micros = since.subsec_micros();
        let mut text = self.text;
        put_pair(&mut text, 21, micros / 10_000);
        put_pair(&mut text, 23, micros / 100 % 100);
        put_pair(&mut text, 25, micros % 100);
        text
    }

    #[cold]
    fn turn(&mut self, second: u64) {
        let shown = second.min(jiff::Timestamp::MAX.as_second().unsigned_abs());
        let (day, of_day) = (shown / DAY, shown % DAY);
        if self.day != day {
            let midnight = i64::try_from(day * DAY).unwrap_or(i64::MAX);
            let timestamp = jiff::Timestamp::from_second(midnight).unwrap_or(jiff::Timestamp::MAX);
            let text = format!("\"{timestamp:.0}");
            if let Some(start) = text.as_bytes().first_chunk::<12>() {
                self.text[..12].copy_from_slice(start);
                self.day = day;
            }
        }
        // Less than a day's seconds fit.
        let of_day = of_day as u32;
        put_pair(&mut self.text, 12, of_day / 3600);
        put_pair(&mut self.text, 15, of_day / 60 % 60);
        put_pair(&mut self.text, 18, of_day % 60);
        self.second = second;
    }
}

/// Two digits.
fn put_pair(text: &mut TimeText, at: usize, number: u32) {
    text[at] = b'0' + (number / 10) as u8;
    text[at + 1] = b'0' + (number % 10) as u8;
}

#[cfg(test)]
mod tests;
