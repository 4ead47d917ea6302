//! One line: its fields as JSON, formatted into a buffer that the thread keeps.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fusebox_resilience::ComponentId;
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
        self.key("address");
        let [a, b, c, d] = v4.ip().octets();
        self.piece("\"").number(a.into());
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
    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        self.piece(itoa::Buffer::new().format(number))
    }

    /// Adds a time with its quotes.
    pub(crate) fn time(&mut self, since: SinceEpoch) -> &mut Self {
        self.last_time.write(since, self.buffer);
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
        return words.iter().chain([last]).fold(0, |odd, word| odd | odd_bytes(*word)) == 0;
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
    odd_bytes(word) == 0
}

/// Not 0: there is a byte that is none of ASCII, a control character, a quote or a backslash.
fn odd_bytes(word: [u8; 8]) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let word = u64::from_ne_bytes(word);
    // Sets the high bit of bytes that are below `limit`, which is at most 128; others may follow
    // one that is.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (word | below(word, 0x20) | is(b'"') | is(b'\\') | is(0x7f)) & HIGH
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
            line.piece("\"time\":")
                .time(SinceEpoch::of(time))
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

/// The last second that was formatted, and its day: nearly all lines are of the same as the line
/// before.
#[derive(Debug)]
pub(crate) struct LastTime {
    day: u64,
    second: u64,
    /// As in `"2024-08-20T11:37:36.000000Z"`.
    text: [u8; 29],
}

impl Default for LastTime {
    fn default() -> Self {
        Self::NONE
    }
}

impl LastTime {
    const NONE: Self =
        Self { day: u64::MAX, second: u64::MAX, text: *b"\"0000-00-00T00:00:00.000000Z\"" };

    /// Appends it with its quotes, in microseconds.
    pub(crate) fn write(&mut self, time: SinceEpoch, buffer: &mut Vec<u8>) {
        let SinceEpoch(since) = time;
        if self.second != since.as_secs() {
            self.turn(since.as_secs());
        }
        let micros = since.subsec_micros();
        let mut text = self.text;
        put_pair(&mut text, 21, micros / 10_000);
        put_pair(&mut text, 23, micros / 100 % 100);
        put_pair(&mut text, 25, micros % 100);
        buffer.extend_from_slice(&text);
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
fn put_pair(text: &mut [u8; 29], at: usize, number: u32) {
    text[at] = b'0' + (number / 10) as u8;
    text[at + 1] = b'0' + (number % 10) as u8;
}

#[cfg(test)]
mod tests;
