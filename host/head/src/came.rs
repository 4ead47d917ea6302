//! Fields that stay the bytes which they came as, with an index of where each stands.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::filter::{NameFilter, NameSet};
use crate::names::{field_name, make_lower};
use crate::put::put_field;

/// Of so many fields, each search from the beginning takes less than sorting them.
const SHORT: usize = 64;

/// Room for what a proxy adds to a map.
const ROOM: usize = 4;

/// Where the fields of a head stand in its bytes. Its memory can be used again.
#[derive(Debug, Default)]
pub struct FieldIndex(Vec<FieldPlace>);

/// Where a field stands. In 16 bytes: one is written and read for each field of each head.
#[derive(Clone, Copy, Debug)]
struct FieldPlace {
    name: u32,
    value: u32,
    value_length: u32,
    name_length: u16,
    /// Its line is as we would write it.
    is_plain: bool,
    of_hop: Option<HopField>,
}

/// A field that speaks of the body's framing or of the connection. Each hop says that itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HopField {
    /// `Content-Length`.
    Length,
    /// `Transfer-Encoding`.
    Coding,
    /// `Connection`.
    Connection,
}

impl HopField {
    /// Those of this name, which is in lower case.
    #[inline]
    fn of(name: &[u8]) -> Option<Self> {
        match name {
            b"content-length" => Some(Self::Length),
            b"transfer-encoding" => Some(Self::Coding),
            b"connection" => Some(Self::Connection),
            _ => None,
        }
    }
}

impl FieldIndex {
    /// Adds fields, by where their names and their values stand. Returns whether they can be some:
    /// no name is longer than 65,535 bytes, and no head than 4 GiB.
    #[inline]
    #[must_use]
    pub fn add(&mut self, fields: impl ExactSizeIterator<Item = [Range<usize>; 2]>) -> bool {
        let mut are_valid = true;
        self.0.extend(fields.map(|[name, value]| {
            are_valid &= name.len() <= u16::MAX.into() && value.end <= u32::MAX as usize;
            FieldPlace {
                name: name.start as u32,
                value: value.start as u32,
                value_length: value.len() as u32,
                name_length: name.len() as u16,
                is_plain: false,
                of_hop: None,
            }
        }));
        are_valid
    }

    /// For how many fields it has memory.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl FieldPlace {
    #[inline]
    fn name(self) -> Range<usize> {
        let start = self.name as usize;
        start..start + usize::from(self.name_length)
    }

    #[inline]
    fn value(self) -> Range<usize> {
        let start = self.value as usize;
        start..start + self.value_length as usize
    }

    /// The line of a plain one.
    #[inline]
    fn line(self) -> Range<usize> {
        self.name as usize..self.value().end + 2
    }
}

/// The fields of a head as they came: its bytes, and where each field stands in them. They are in
/// the order of a [`HeaderMap`]: those of one name follow each other.
#[derive(Debug)]
pub struct CameFields {
    /// The head, with all names in lower case.
    bytes: Bytes,
    places: Vec<FieldPlace>,
    names: NameFilter,
}

impl CameFields {
    /// Of a head, and where its fields stand in it, in their order. Their names and values are
    /// valid ones; names are put into lower case.
    ///
    /// # Panics
    /// A place is not within the head.
    pub fn new(mut bytes: BytesMut, FieldIndex(mut places): FieldIndex) -> Self {
        let mut names = NameFilter::default();
        let mut may_repeat = false;
        let head = &mut bytes[..];
        for place in &mut places {
            let (name, value) = (place.name(), place.value());
            debug_assert!(HeaderName::from_bytes(&head[name.clone()]).is_ok());
            debug_assert!(HeaderValue::from_bytes(&head[value.clone()]).is_ok());
            place.is_plain =
                head[name.end..value.start] == *b": " && head[value.end..].starts_with(b"\r\n");
            let name = &mut head[name];
            make_lower(name);
            place.of_hop = HopField::of(name);
            may_repeat |= names.add(name);
        }
        if may_repeat {
            gather(head, &mut places);
        }
        Self { bytes: bytes.freeze(), places, names }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is a field of this name.
    #[inline]
    pub(crate) fn contains(&self, name: &HeaderName) -> bool {
        !self.group(name.as_str()).is_empty()
    }

    /// Whether there is a field of one of these names.
    #[inline]
    pub(crate) fn contains_any(&self, set: &NameSet) -> bool {
        let has = |name: &&str| !self.group(name).is_empty();
        self.names.may_have_any(set.filter) && set.names.iter().any(has)
    }

    /// The values of all fields of this name.
    #[inline]
    pub fn get_all<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.places[self.group(name.as_str())].iter().map(|place| &self.bytes[place.value()])
    }

    /// All names with their values.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.places.iter().map(|place| (&self.bytes[place.name()], &self.bytes[place.value()]))
    }

    /// Removes all fields of this name. As in a map, the last ones take their place.
    pub fn remove(&mut self, name: &HeaderName) {
        let gone = self.group(name.as_str());
        if !gone.is_empty() {
            let last = self.last_group().len();
            let (at, is_last) = (gone.start, gone.end == self.places.len());
            self.places.drain(gone);
            if !is_last {
                self.places[at..].rotate_right(last);
            }
        }
    }

    /// Leaves of the fields of this name the first one, with this part of its value.
    pub fn keep_first(&mut self, name: &HeaderName, part: Range<usize>) {
        let mut others = self.group(name.as_str());
        if let Some(first) = others.next() {
            let place = &mut self.places[first];
            place.is_plain &= part.len() == place.value().len();
            // Parts are not longer than the whole.
            place.value += part.start as u32;
            place.value_length = part.len() as u32;
            self.places.drain(others);
        }
    }

    /// The values of these fields.
    #[inline]
    pub fn of_hop(&self, field: HopField) -> impl Iterator<Item = &[u8]> {
        let places = self.places.iter().filter(move |place| place.of_hop == Some(field));
        places.map(|place| &self.bytes[place.value()])
    }

    /// Appends the lines of all but those that each hop says itself, and those of some names.
    #[inline]
    pub(crate) fn put_into<'a>(
        &self,
        out: &mut Vec<u8>,
        except: impl Iterator<Item = &'a HeaderName> + Clone,
    ) {
        let leaves_some = except.clone().any(|name| self.contains(name));
        let is_left = |place: &FieldPlace| {
            let name = &self.bytes[place.name()];
            except.clone().any(|other| other.as_str().as_bytes() == name)
        };
        // Lines that stood one behind the other go on in one piece.
        let mut run = 0..0;
        for place in &self.places {
            if place.of_hop.is_some() || leaves_some && is_left(place) {
                continue;
            }
            let line = place.line();
            if place.is_plain && run.end == line.start {
                run.end = line.end;
                continue;
            }
            out.extend_from_slice(&self.bytes[run]);
            run = line;
            if !place.is_plain {
                put_field(out, &self.bytes[place.name()], &self.bytes[place.value()]);
                run = 0..0;
            }
        }
        out.extend_from_slice(&self.bytes[run]);
    }

    /// The same fields as a map.
    pub(crate) fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.places.len() + ROOM);
        for place in &self.places {
            let value = HeaderValue::from_maybe_shared(self.bytes.slice(place.value()));
            if let (Some(name), Ok(value)) = (field_name(&self.bytes[place.name()]), value) {
                map.append(name, value);
            }
        }
        map
    }

    /// Its index without fields, as memory for another one.
    pub(crate) fn into_index(self) -> FieldIndex {
        let mut places = self.places;
        places.clear();
        FieldIndex(places)
    }

    #[inline(always)]
    fn group(&self, name: &str) -> Range<usize> {
        let name = name.as_bytes();
        if self.names.may_have(name) { group(&self.bytes, &self.places, name) } else { 0..0 }
    }

    /// Those of the name of the last one.
    fn last_group(&self) -> Range<usize> {
        let name_of = |place: &FieldPlace| &self.bytes[place.name()];
        let last = self.places.last().map(name_of);
        let others = self.places.iter().rev().take_while(|place| Some(name_of(place)) == last);
        self.places.len() - others.count()..self.places.len()
    }
}

/// Puts those of one name behind each other.
#[cold]
fn gather(bytes: &[u8], places: &mut [FieldPlace]) {
    if places.len() > SHORT {
        return gather_many(bytes, places);
    }
    let mut names = NameFilter::default();
    for at in 0..places.len() {
        let name = &bytes[places[at].name()];
        if names.add(name) {
            let earlier = group(bytes, &places[..at], name);
            if !earlier.is_empty() {
                places[earlier.end..=at].rotate_right(1);
            }
        }
    }
}

/// The same of a long head, for which the time must not grow with the square of its fields.
fn gather_many(bytes: &[u8], places: &mut [FieldPlace]) {
    let name = |at: &usize| &bytes[places[*at].name()];
    let mut by_name: Vec<usize> = (0..places.len()).collect();
    by_name.sort_by_key(name);
    // Each with where the first of its name stood.
    let mut order = Vec::with_capacity(places.len());
    for same in by_name.chunk_by(|one, other| name(one) == name(other)) {
        order.extend(same.iter().map(|at| (same[0], places[*at])));
    }
    order.sort_by_key(|(first, _)| *first);
    for (place, (_, gathered)) in places.iter_mut().zip(order) {
        *place = gathered;
    }
}

/// The fields of this name, which follow each other.
fn group(bytes: &[u8], places: &[FieldPlace], name: &[u8]) -> Range<usize> {
    let is_it = |place: &FieldPlace| {
        usize::from(place.name_length) == name.len() && bytes[place.name()] == *name
    };
    let Some(start) = places.iter().position(is_it) else { return 0..0 };
    let others = places[start + 1..].iter().take_while(|place| is_it(place));
    start..start + 1 + others.count()
}

#[cfg(test)]
mod tests;
