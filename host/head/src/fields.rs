//! The fields themselves, and what can be asked of them.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::put::put_field;

/// Something that has header fields.
pub trait FieldLookup {
    /// The value of the first field of this name.
    fn first(&self, name: &HeaderName) -> Option<&[u8]>;
}

impl FieldLookup for HeaderMap {
    #[inline]
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.get(name).map(HeaderValue::as_bytes)
    }
}

/// The header fields of a response.
#[derive(Default)]
pub struct HeaderFields(HeaderMap);

impl From<HeaderMap> for HeaderFields {
    #[inline]
    fn from(map: HeaderMap) -> Self {
        Self(map)
    }
}

impl FieldLookup for HeaderFields {
    #[inline]
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.get(name)
    }
}

impl HeaderFields {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is a field of this name.
    #[inline]
    pub fn contains(&self, name: &HeaderName) -> bool {
        // To compare the few names takes less than a lookup.
        self.0.keys().any(|other| other == name)
    }

    /// Whether there is a field of one of these names.
    #[inline]
    pub fn contains_any(&self, names: &[HeaderName]) -> bool {
        self.0.keys().any(|name| names.contains(name))
    }

    /// The value of the first field of this name.
    #[inline]
    pub fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        self.0.get(name).map(HeaderValue::as_bytes)
    }

    /// The values of all fields of this name.
    pub fn get_all<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.0.get_all(name).into_iter().map(HeaderValue::as_bytes)
    }

    /// All names, in lower case, with their values. Those of one name follow each other.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
    }

    /// Removes all fields of this name. As in a map, the last ones take their place.
    pub fn remove(&mut self, name: &HeaderName) {
        self.0.remove(name);
    }

    /// Appends those that `goes_on` takes, by name and value.
    #[inline]
    pub fn put_into(&self, out: &mut Vec<u8>, mut goes_on: impl FnMut(&[u8], &[u8]) -> bool) {
        for (name, value) in self.iter() {
            if goes_on(name, value) {
                put_field(out, name, value);
            }
        }
    }

    /// All of them, to be changed.
    pub fn map_mut(&mut self) -> &mut HeaderMap {
        &mut self.0
    }

    /// All of them.
    pub fn into_map(self) -> HeaderMap {
        self.0
    }

    /// A copy of all of them.
    pub fn to_map(&self) -> HeaderMap {
        self.0.clone()
    }
}

/// As a map shows itself.
impl fmt::Debug for HeaderFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A value as text. `None`: it has more than visible ASCII.
pub fn text(value: &[u8]) -> Option<&str> {
    str::from_utf8(value).ok().filter(|text| text.is_ascii())
}
