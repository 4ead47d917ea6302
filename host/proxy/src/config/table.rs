//! Tables whose keys are declared in one place: `table!` takes name, type, default and bounds of
//! each key, and makes the struct and the code that reads it.
//!
//! Each key is read by itself, so that all errors in a table are reported at once. A wrong value is
//! replaced by the default, and the rest of the file is checked with that.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::document::{ConfigError, Document};
use super::path::join;

/// Declares a table of the file as a struct. After each field stands the method of [`Keys`] that
/// reads it.
macro_rules! table {
    (
        $(#[$attribute:meta])*
        pub struct $Name:ident {
            $(
                $(#[$key_attribute:meta])*
                pub $key:ident: $Type:ty = $read:ident($($argument:expr),*),
            )*
        }
    ) => {
        $(#[$attribute])*
        pub struct $Name {
            $($(#[$key_attribute])* pub $key: $Type,)*
        }

        impl $crate::config::table::Table for $Name {
            const KEYS: &'static [&'static str] = &[$(stringify!($key)),*];

            fn read(keys: &mut $crate::config::table::Keys<'_, '_>) -> Option<Self> {
                $(let $key = keys.$read(stringify!($key) $(, $argument)*);)*
                Some(Self { $($key: $key?),* })
            }
        }
    };
}

pub(super) use table;

/// A table declared by `table!`.
pub(super) trait Table: Sized {
    /// The names of its keys.
    const KEYS: &'static [&'static str];

    /// Reads every key. `None`: a required key is missing or wrong, which has been reported.
    fn read(keys: &mut Keys<'_, '_>) -> Option<Self>;
}

/// A table with all defaults. It must have no required key.
pub(super) fn defaults<T: Table>() -> T {
    let nothing = Document::parse(Path::new(""), "", |_| None);
    let read = nothing.ok().and_then(|nothing| Reader::new(&nothing).table(""));
    read.expect("no key of it is required")
}

/// Reads a document and collects the errors.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) document: &'a Document<'a>,
    pub(super) errors: Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(document: &'a Document) -> Self {
        Self { document, errors: Vec::new() }
    }

    /// Adds an error at `path`.
    pub(super) fn error(&mut self, path: &str, message: impl Into<String>) {
        self.errors.push(self.document.error(path, message));
    }

    /// The value of a result; its error is added.
    pub(super) fn report<T>(&mut self, read: Result<T, ConfigError>) -> Option<T> {
        read.map_err(|error| self.errors.push(error)).ok()
    }

    /// The value at `path`, if it is there and has the right type. A table or a list may come
    /// without what is wrong in it.
    pub(super) fn value<T: DeserializeOwned>(&mut self, path: &str) -> Option<T> {
        self.value_without(path, &[])
    }

    /// The same for a table, without some of its keys.
    pub(super) fn value_without<T: DeserializeOwned>(
        &mut self,
        path: &str,
        except: &[&str],
    ) -> Option<T> {
        self.document.read(path, except, |error| self.errors.push(error))
    }

    /// The table at `path`; with all defaults if it is not there.
    pub(super) fn table<T: Table>(&mut self, path: &str) -> Option<T> {
        self.table_beside(path, &[])
    }

    /// The same for a table with more keys, which the caller reads.
    pub(super) fn table_beside<T: Table>(&mut self, path: &str, others: &[&str]) -> Option<T> {
        let known: Vec<&str> = others.iter().chain(T::KEYS).copied().collect();
        self.known_keys(path, &known)?;
        T::read(&mut Keys { reader: self, path })
    }

    /// The same, without a look at further keys.
    pub(super) fn part_of_table<T: Table>(&mut self, path: &str) -> Option<T> {
        T::read(&mut Keys { reader: self, path })
    }

    /// Reports unknown keys of the table at `path`. `None`: it is not a table.
    pub(super) fn known_keys(&mut self, path: &str, known: &[&str]) -> Option<()> {
        let read = self.document.keys(path);
        for key in self.report(read)? {
            if !known.contains(&key.as_str()) {
                let message = format!("unknown key `{key}`; expected one of {}", known.join(", "));
                self.error(&join(path, &key), message);
            }
        }
        Some(())
    }

    /// The tables of a section by name, each read by `read`.
    pub(super) fn named<T>(
        &mut self,
        section: &str,
        read: impl Fn(&mut Reader<'a>, &str) -> Option<T>,
    ) -> BTreeMap<String, T> {
        let names = self.document.keys(section);
        let mut values = BTreeMap::new();
        for name in self.report(names).unwrap_or_default() {
            let path = join(section, &name);
            if !is_name(&name) {
                self.error(&path, "a name has letters, digits, `-` and `_`");
            } else if let Err(error) = self.document.keys(&path) {
                self.errors.push(error);
            } else if let Some(value) = read(self, &path) {
                values.insert(name, value);
            }
        }
        values
    }
}

/// Whether a component, policy, budget or upstream can have this name.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Reads the keys of one table.
#[derive(Debug)]
pub(super) struct Keys<'r, 'a> {
    pub(super) reader: &'r mut Reader<'a>,
    path: &'r str,
}

impl<'a> Keys<'_, 'a> {
    pub(super) fn path_of(&self, key: &str) -> String {
        join(self.path, key)
    }

    fn value<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let path = self.path_of(key);
        self.reader.value(&path)
    }

    pub(super) fn is_there(&self, key: &str) -> bool {
        self.reader.document.value(&self.path_of(key)).is_some()
    }

    /// A required address to listen on.
    pub(super) fn address(&mut self, key: &str) -> Option<SocketAddr> {
        self.required(
            key,
            "an IP address with a port, such as \"127.0.0.1:3002\" or \"[::1]:3002\"",
            |text| text.parse().ok(),
        )
    }

    /// A required key, read by `parse`.
    pub(super) fn required<T>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        if !self.is_there(key) {
            self.reader.error(&self.path_of(key), format!("missing; expected {expected}"));
        }
        self.parsed(key, |text| {
            parse(text).ok_or_else(|| format!("expected {expected}, found `{text}`"))
        })?
    }

    /// A key with a default and without bounds.
    pub(super) fn or<T: DeserializeOwned>(&mut self, key: &str, default: T) -> Option<T> {
        Some(self.value(key).unwrap_or(default))
    }

    /// A key without a default and without bounds.
    pub(super) fn optional<T: DeserializeOwned>(&mut self, key: &str) -> Option<Option<T>> {
        Some(self.value(key))
    }

    /// A key with a default and bounds.
    pub(super) fn within<T>(
        &mut self,
        key: &str,
        default: T,
        bounds: RangeInclusive<T>,
    ) -> Option<T>
    where
        T: DeserializeOwned + Display + PartialOrd,
    {
        let value = self.optional_within(key, bounds)?;
        Some(value.unwrap_or(default))
    }

    /// A key with bounds and without a default.
    pub(super) fn optional_within<T>(
        &mut self,
        key: &str,
        bounds: RangeInclusive<T>,
    ) -> Option<Option<T>>
    where
        T: DeserializeOwned + Display + PartialOrd,
    {
        let (least, most) = (bounds.start(), bounds.end());
        let what = || format!("must be from {least} to {most}");
        Some(self.bounded(key, |value| bounds.contains(value), what))
    }

    /// A key with a default and a lower bound.
    pub(super) fn at_least<T>(&mut self, key: &str, default: T, least: T) -> Option<T>
    where
        T: DeserializeOwned + Display + PartialOrd,
    {
        let what = || format!("must be at least {least}");
        Some(self.bounded(key, |value| *value >= least, what).unwrap_or(default))
    }

    /// A key with a lower bound and without a default.
    pub(super) fn optional_at_least<T>(&mut self, key: &str, least: T) -> Option<Option<T>>
    where
        T: DeserializeOwned + Display + PartialOrd,
    {
        let what = || format!("must be at least {least}");
        Some(self.bounded(key, |value| *value >= least, what))
    }

    /// A key with a default and an upper bound.
    pub(super) fn at_most<T>(&mut self, key: &str, default: T, most: T) -> Option<T>
    where
        T: DeserializeOwned + Display + PartialOrd,
    {
        let what = || format!("must be at most {most}");
        Some(self.bounded(key, |value| *value <= most, what).unwrap_or(default))
    }

    fn bounded<T: DeserializeOwned + Display>(
        &mut self,
        key: &str,
        is_within: impl Fn(&T) -> bool,
        bounds: impl Fn() -> String,
    ) -> Option<T> {
        let value = self.value(key)?;
        if is_within(&value) {
            return Some(value);
        }
        self.reader.error(&self.path_of(key), format!("{}, is {value}", bounds()));
        None
    }

    /// A table; with all defaults if it is not there.
    pub(super) fn table<T: Table>(&mut self, key: &str) -> Option<T> {
        let path = self.path_of(key);
        Some(self.reader.table(&path).unwrap_or_else(defaults))
    }

    /// A table without a default.
    pub(super) fn optional_table<T: Table>(&mut self, key: &str) -> Option<Option<T>> {
        let path = self.path_of(key);
        Some(if self.is_there(key) { self.reader.table(&path) } else { None })
    }

    /// Tables by name.
    pub(super) fn named<T>(
        &mut self,
        key: &str,
        read: impl Fn(&mut Reader<'a>, &str) -> Option<T>,
    ) -> Option<BTreeMap<String, T>> {
        Some(self.reader.named(key, read))
    }

    /// A key without a default, read by `parse`, whose error says what it expects.
    pub(super) fn parsed<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        let path = self.path_of(key);
        Some(self.reader.parsed(&path, parse))
    }

    /// The same with a default.
    pub(super) fn parsed_or<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
        default: T,
    ) -> Option<T> {
        Some(self.parsed(key, parse)?.unwrap_or(default))
    }

    /// A list without a default. Wrong elements are reported and left out.
    pub(super) fn list<T>(
        &mut self,
        key: &str,
        parse: impl FnMut(&str) -> Result<T, String>,
    ) -> Option<Option<Vec<T>>> {
        let path = self.path_of(key);
        Some(self.reader.list(&path, parse))
    }
}

impl Reader<'_> {
    /// The string at `path` as `parse` reads it, if it is there and right.
    pub(super) fn parsed<T>(
        &mut self,
        path: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text: String = self.value(path)?;
        parse(&text).map_err(|message| self.error(path, message)).ok()
    }

    /// The list at `path`, if it is there, without wrong elements.
    pub(super) fn list<T>(
        &mut self,
        path: &str,
        mut parse: impl FnMut(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        self.document.value(path)?;
        let length = self.document.length(path, "a list");
        let length = self.report(length)?;
        Some(
            (0..length)
                .filter_map(|at| self.parsed(&format!("{path}[{at}]"), &mut parse))
                .collect(),
        )
    }
}
