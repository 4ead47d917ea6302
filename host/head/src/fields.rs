//! The fields in either form, and what can be asked of them.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::came::{CameFields, FieldIndex};
use crate::filter::NameSet;
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

/// See [`HopField`].
const OF_HOP: [HeaderName; 3] =
    [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION];

/// The header fields of a response.
pub struct HeaderFields(Form);

enum Form {
    Came(CameFields),
    Map(HeaderMap),
}

/// Memory that other fields can use.
#[derive(Debug)]
pub enum FieldMemory {
    /// Of an index without fields.
    Index(FieldIndex),
    /// Of a map, with what is in it.
    Map(HeaderMap),
}

impl Default for HeaderFields {
    fn default() -> Self {
        HeaderMap::default().into()
    }
}

impl From<HeaderMap> for HeaderFields {
    #[inline]
    fn from(map: HeaderMap) -> Self {
        Self(Form::Map(map))
    }
}

impl From<CameFields> for HeaderFields {
    #[inline]
    fn from(fields: CameFields) -> Self {
        Self(Form::Came(fields))
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
        match &self.0 {
            Form::Came(fields) => fields.len(),
            Form::Map(map) => map.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is a field of this name.
    #[inline]
    pub fn contains(&self, name: &HeaderName) -> bool {
        match &self.0 {
            Form::Came(fields) => fields.contains(name),
            // To compare the few names takes less than a lookup.
            Form::Map(map) => map.keys().any(|other| other == name),
        }
    }

    /// Whether there is a field of one of these names.
    #[inline]
    pub fn contains_any(&self, set: &NameSet) -> bool {
        match &self.0 {
            Form::Came(fields) => fields.contains_any(set),
            Form::Map(map) => map.keys().any(|name| set.names.contains(&name.as_str())),
        }
    }

    /// The value of the first field of this name.
    #[inline]
    pub fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        match &self.0 {
            Form::Came(fields) => fields.get_all(name).next(),
            Form::Map(map) => map.first(name),
        }
    }

    /// The values of all fields of this name.
    pub fn get_all<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (came, map) = match &self.0 {
            Form::Came(fields) => (Some(fields.get_all(name)), None),
            Form::Map(map) => (None, Some(map.get_all(name))),
        };
        let map = map.into_iter().flatten().map(HeaderValue::as_bytes);
        came.into_iter().flatten().chain(map)
    }

    /// All names, in lower case, with their values. Those of one name follow each other.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (came, map) = match &self.0 {
            Form::Came(fields) => (Some(fields.iter()), None),
            Form::Map(map) => (None, Some(map)),
        };
        let map = map.into_iter().flatten();
        let map = map.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        came.into_iter().flatten().chain(map)
    }

    /// Removes all fields of this name. The last ones take their place.
    pub fn remove(&mut self, name: &HeaderName) {
        match &mut self.0 {
            Form::Came(fields) => fields.remove(name),
            Form::Map(map) => drop(map.remove(name)),
        }
    }

    /// Appends the lines of all but those that each hop says itself, and those of some names.
    #[inline]
    pub fn put_into<'a>(
        &self,
        out: &mut Vec<u8>,
        except: impl Iterator<Item = &'a HeaderName> + Clone,
    ) {
        match &self.0 {
            Form::Came(fields) => fields.put_into(out, except),
            Form::Map(map) => {
                for (name, value) in map {
                    let is_of_hop = OF_HOP.contains(name);
                    if !is_of_hop && !except.clone().any(|other| other == name) {
                        put_field(out, name.as_str().as_bytes(), value.as_bytes());
                    }
                }
            }
        }
    }

    /// All of them, to be looked into or changed in any way.
    pub fn map_mut(&mut self) -> &mut HeaderMap {
        if let Form::Came(fields) = &self.0 {
            self.0 = Form::Map(fields.to_map());
        }
        match &mut self.0 {
            Form::Map(map) => map,
            Form::Came(_) => unreachable!("it has become a map"),
        }
    }

    /// All of them.
    pub fn into_map(self) -> HeaderMap {
        match self.0 {
            Form::Came(fields) => fields.to_map(),
            Form::Map(map) => map,
        }
    }

    /// A copy of all of them.
    pub fn to_map(&self) -> HeaderMap {
        match &self.0 {
            Form::Came(fields) => fields.to_map(),
            Form::Map(map) => map.clone(),
        }
    }

    /// What can be used again of them.
    #[inline]
    pub fn into_memory(self) -> FieldMemory {
        match self.0 {
            Form::Came(fields) => FieldMemory::Index(fields.into_index()),
            Form::Map(map) => FieldMemory::Map(map),
        }
    }
}

/// As a map shows itself, in either form.
impl fmt::Debug for HeaderFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Came(fields) => fields.to_map().fmt(f),
            Form::Map(map) => map.fmt(f),
        }
    }
}

/// A value as text. `None`: it has more than visible ASCII.
pub fn text(value: &[u8]) -> Option<&str> {
    str::from_utf8(value).ok().filter(|text| text.is_ascii())
}
