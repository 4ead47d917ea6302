//! A parsed TOML file in which every value has a path and a line, so that errors can say where they
//! are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::{self, Write as _};
use std::mem;
use std::path::Path;

use serde::de::{DeserializeOwned, IntoDeserializer};
use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::long_texts::{LongTexts, shortened};
use super::missing::{also_missing, missing_key};
use super::path::{PathStep, join, steps};
use super::variables::{ExpandedVariables, take_literally};
use super::words::{TOO_DEEP, found, in_plain_words, is_of_string};

/// How many errors of one table are reported. Each costs reading the table once more.
const MOST_ERRORS: usize = 100;

/// An error in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as it was given.
    pub file: String,
    /// The line, from 1. `None`: the error is not about a line.
    pub line: Option<usize>,
    /// The path of the key, such as `policies.retry.max_retries`. Empty: the error is about the
    /// file.
    pub path: String,
    /// What was expected and what was found.
    pub message: String,
}

impl ConfigError {
    /// An error about the whole file, or about a line of it.
    pub(crate) fn of_file(file: &Path, line: Option<usize>, message: impl Into<String>) -> Self {
        let file = file.display().to_string();
        Self { file, line, path: String::new(), message: message.into() }
    }

    /// The table that it is in, and its key there.
    fn table_and_key(&self) -> (&str, &str) {
        self.path.rsplit_once('.').unwrap_or(("", &self.path))
    }
}

/// Text with its control characters escaped: what a file has in its strings can't look like more
/// lines, nor command a terminal.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            match char.is_control() {
                true => char.escape_default().fmt(f)?,
                false => f.write_char(char)?,
            }
        }
        Ok(())
    }
}

/// `more` without what is the same as one of `known` or can follow from it: what is about a wrong
/// key, or names one beside it in the same table.
pub(crate) fn independent(
    more: impl IntoIterator<Item = ConfigError>,
    known: &[ConfigError],
) -> Vec<ConfigError> {
    let mut wrong: HashMap<&str, Vec<&str>> = HashMap::new();
    for (table, key) in known.iter().map(ConfigError::table_and_key) {
        wrong.entry(table).or_default().push(key);
    }
    let is_independent = |error: &ConfigError| {
        let (table, key) = error.table_and_key();
        let names = |wrong: &str| error.message.contains(&format!("`{wrong}`"));
        let wrong = wrong.get(table).into_iter().flatten();
        !wrong.into_iter().any(|wrong| *wrong == key || names(wrong))
    };
    more.into_iter().filter(is_independent).collect()
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.path.is_empty() {
            let path: Vec<_> = self.path.split('.').map(shortened).collect();
            write!(f, ": {}", OneLine(&path.join(".")))?;
        }
        write!(f, ": {}", OneLine(&self.message))
    }
}

/// The lines of all values: what is kept of a file after reading, for later errors.
#[derive(Clone, Debug)]
pub struct Places {
    file: String,
    /// Lines, from 1, by path.
    lines: BTreeMap<String, usize>,
    long: LongTexts,
}

impl Places {
    /// An error at `path`.
    pub fn error(&self, path: &str, message: impl Into<String>) -> ConfigError {
        ConfigError {
            file: self.file.clone(),
            line: self.line_of(path),
            path: path.to_owned(),
            message: self.long.in_short(path, message.into()),
        }
    }

    /// The line of `path`, or of the nearest path above it that exists.
    fn line_of(&self, path: &str) -> Option<usize> {
        let mut path = path;
        while !path.is_empty() {
            if let Some(line) = self.lines.get(path) {
                return Some(*line);
            }
            path = path.rfind(['.', '[']).map_or("", |end| &path[..end]);
        }
        None
    }

    /// Whether the file says something at `path`.
    pub fn has(&self, path: &str) -> bool {
        self.lines.contains_key(path)
    }

    /// Checks that a section, such as `policies`, has a table of this name, whether right or wrong.
    /// `what` is the word for such a table.
    ///
    /// # Errors
    /// It has not. The message lists the names that it has.
    pub fn look_up(&self, section: &str, what: &str, name: &str) -> Result<(), String> {
        if self.lines.contains_key(&join(section, name)) {
            return Ok(());
        }
        let within = |path: &'_ String| {
            let name = path.strip_prefix(section)?.strip_prefix('.')?;
            (!name.contains(['.', '['])).then(|| name.to_owned())
        };
        let known: Vec<String> = self.lines.keys().filter_map(within).collect();
        Err(if known.is_empty() {
            format!("unknown {what} `{name}`; the file has none")
        } else {
            format!("unknown {what} `{name}`; expected one of {}", known.join(", "))
        })
    }
}

/// A parsed file, with `${VAR}` and `${VAR:-default}` expanded inside its strings.
#[derive(Debug)]
pub struct Document<'t> {
    /// The offsets of all line ends.
    newlines: Vec<usize>,
    root: Spanned<DeValue<'t>>,
    places: Places,
    unset: Vec<ConfigError>,
    /// What the strings say that are nothing but a variable, by where they begin.
    variables: BTreeMap<usize, String>,
}

impl<'t> Document<'t> {
    /// Parses `text`. `variable` looks up environment variables; those it does not find are in
    /// [`unset`](Self::unset).
    ///
    /// # Errors
    /// All syntax errors.
    pub fn parse(
        file: &Path,
        text: &'t str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<ConfigError>> {
        let file = file.display().to_string();
        let (table, mut errors) = DeTable::parse_recoverable(text);
        // What is nested deeper is not understood, whatever it is.
        if let Some(at) = errors.iter().position(|error| error.message().contains(TOO_DEEP)) {
            errors.truncate(at + 1);
        }
        let root = Spanned::new(table.span(), DeValue::Table(table.into_inner()));
        let newlines = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(offset, _)| offset)
            .collect();
        let places = Places { file, lines: BTreeMap::new(), long: LongTexts::default() };
        let variables = BTreeMap::new();
        let mut document = Self { newlines, root, places, unset: Vec::new(), variables };
        if !errors.is_empty() {
            return Err(errors.iter().map(|error| document.syntax_error(error, text)).collect());
        }
        let mut lines = BTreeMap::new();
        document.find_lines(&document.root, "", &mut lines);
        document.places.lines = lines;
        let mut expanded = ExpandedVariables::default();
        expanded.expand_all(&mut document.root, String::new(), &variable);
        let ExpandedVariables { unset, whole } = expanded;
        document.variables = whole;
        document.places.long.find(&document.root, "");
        document.unset =
            unset.into_iter().map(|(path, message)| document.error(&path, message)).collect();
        Ok(document)
    }

    /// Errors about environment variables that are not set.
    pub fn unset(&self) -> &[ConfigError] {
        &self.unset
    }

    /// An error at `path`.
    pub fn error(&self, path: &str, message: impl Into<String>) -> ConfigError {
        self.places.error(path, message)
    }

    /// The lines of all values.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The value at `path`, such as `policies.retry` or `routes[0].path`. The empty path is the
    /// whole file.
    pub fn value(&self, path: &str) -> Option<&Spanned<DeValue<'t>>> {
        let mut value = &self.root;
        for step in steps(path) {
            value = match (step, value.get_ref()) {
                (PathStep::Key(key), DeValue::Table(table)) => table.get(key)?,
                (PathStep::Index(index), DeValue::Array(array)) => array.get(index)?,
                _ => return None,
            };
        }
        Some(value)
    }

    /// Deserializes the value at `path`, without the keys in `except`. Reports what is wrong with
    /// it to `report`; `None`: nothing is there, or not enough of it is right.
    ///
    /// serde stops at the first error. So what it stopped at is taken out, which gives it its
    /// default, and the rest is tried again. The same if it was a variable's text, and is taken for
    /// a number or a boolean then.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        except: &[&str],
        mut report: impl FnMut(ConfigError),
    ) -> Option<T> {
        let mut rest = self.value(path)?.clone();
        if let DeValue::Table(table) = rest.get_mut() {
            for key in except {
                table.remove(*key);
            }
        }
        let mut wrong = BTreeSet::new();
        loop {
            let error = match T::deserialize(rest.clone().into_deserializer()) {
                Ok(value) => return Some(value),
                Err(error) => error,
            };
            let start = error.span().map_or(rest.span().start, |span| span.start);
            if is_of_string(&error) && take_literally(&mut rest, &self.variables, start) {
                continue;
            }
            let found = self.toml_error(&error, path);
            // A key that was taken out is not missing, and a table without it is not whole.
            let was_there = |key: &str| wrong.contains(&join(&found.path, key));
            let inside = join(&found.path, "");
            let is_consequence = match missing_key(&error) {
                Some(key) => was_there(key),
                None => wrong.iter().any(|wrong: &String| wrong.starts_with(&inside)),
            };
            if !is_consequence {
                report(found.clone());
            }
            for key in also_missing::<T>(&rest, &error).iter().filter(|key| !was_there(key)) {
                report(ConfigError { message: format!("missing key `{key}`"), ..found.clone() });
            }
            let is_last = wrong.len() == MOST_ERRORS;
            wrong.insert(found.path);
            if is_last || !error.span().is_some_and(|span| take_out(&mut rest, span.start)) {
                return None;
            }
        }
    }

    /// The keys of the table at `path`, sorted; none if there is no table.
    pub(crate) fn keys(&self, path: &str) -> Result<Vec<String>, ConfigError> {
        match self.value(path).map(Spanned::get_ref) {
            None => Ok(Vec::new()),
            Some(DeValue::Table(table)) => {
                Ok(table.keys().map(|key| key.get_ref().to_string()).collect())
            }
            Some(other) => {
                Err(self.error(path, format!("expected a table, found {}", found(other))))
            }
        }
    }

    /// The length of the array at `path`, which `expected` names; 0 if there is none.
    pub(super) fn length(&self, path: &str, expected: &str) -> Result<usize, ConfigError> {
        match self.value(path).map(Spanned::get_ref) {
            None => Ok(0),
            Some(DeValue::Array(array)) => Ok(array.len()),
            Some(other) => {
                Err(self.error(path, format!("expected {expected}, found {}", found(other))))
            }
        }
    }

    /// Adds the lines below `value`. A key has the line of its name, an element of an array that of
    /// its value.
    fn find_lines(
        &self,
        value: &Spanned<DeValue<'_>>,
        path: &str,
        lines: &mut BTreeMap<String, usize>,
    ) {
        let mut add = |path: String, start: usize, value: &Spanned<DeValue<'_>>| {
            lines.insert(path.clone(), self.line_at(start));
            self.find_lines(value, &path, lines);
        };
        match value.get_ref() {
            DeValue::Table(table) => {
                for (key, value) in table {
                    add(join(path, key.get_ref()), key.span().start, value);
                }
            }
            DeValue::Array(array) => {
                for (index, value) in array.iter().enumerate() {
                    add(format!("{path}[{index}]"), value.span().start, value);
                }
            }
            _ => {}
        }
    }

    fn line_at(&self, offset: usize) -> usize {
        self.newlines.partition_point(|newline| *newline < offset) + 1
    }

    /// Turns an error of the TOML crate, found within the path `within`, into ours. Its span leads
    /// to the path.
    fn toml_error(&self, error: &toml::de::Error, within: &str) -> ConfigError {
        let start = error.span().map(|span| span.start);
        let path = start
            .zip(self.value(within))
            .and_then(|(start, value)| deepest(value, within, start))
            .unwrap_or_else(|| within.to_owned());
        ConfigError {
            file: self.places.file.clone(),
            line: start.map(|start| self.line_at(start)).or_else(|| self.places.line_of(within)),
            message: in_plain_words(&self.places.long.in_short(&path, error.message().to_owned())),
            path,
        }
    }

    /// The same for a syntax error, which is about a line. Duplicate keys get their name.
    fn syntax_error(&self, error: &toml::de::Error, text: &str) -> ConfigError {
        let mut message = in_plain_words(error.message());
        if let Some(key) = error.span().and_then(|span| text.get(span))
            && message == "duplicate key"
        {
            message = format!("duplicate key `{}`", shortened(key));
        }
        let line = error.span().map(|span| self.line_at(span.start));
        ConfigError { file: self.places.file.clone(), line, path: String::new(), message }
    }
}

/// Takes the innermost value whose key or value contains `offset` out of what is around it.
/// `false`: nothing below `value` contains it.
fn take_out(value: &mut Spanned<DeValue<'_>>, offset: usize) -> bool {
    match value.get_mut() {
        DeValue::Table(table) => {
            let key = table.iter().find(|(key, value)| is_at(Some(key), value, offset));
            let Some(key) = key.map(|(key, _)| key.clone()) else {
                return table.iter_mut().any(|(_, value)| take_out(value, offset));
            };
            if !table.get_mut(&key).is_some_and(|value| take_out(value, offset)) {
                table.remove(&key);
            }
            true
        }
        DeValue::Array(array) => {
            let Some(index) = array.iter().position(|value| is_at(None, value, offset)) else {
                return array.iter_mut().any(|value| take_out(value, offset));
            };
            if !array.get_mut(index).is_some_and(|value| take_out(value, offset)) {
                let all = mem::replace(array, DeArray::new()).into_iter().enumerate();
                *array = all.filter(|(at, _)| *at != index).map(|(_, value)| value).collect();
            }
            true
        }
        _ => false,
    }
}

/// The path of the innermost value below the one at `path` whose key or value contains `offset`.
fn deepest(value: &Spanned<DeValue<'_>>, path: &str, offset: usize) -> Option<String> {
    let below: Vec<_> = match value.get_ref() {
        DeValue::Table(table) => table
            .iter()
            .map(|(key, value)| (is_at(Some(key), value, offset), value, join(path, key.get_ref())))
            .collect(),
        DeValue::Array(array) => array
            .iter()
            .enumerate()
            .map(|(index, value)| (is_at(None, value, offset), value, format!("{path}[{index}]")))
            .collect(),
        _ => return None,
    };
    match below.iter().find(|(is_here, ..)| *is_here) {
        Some((_, value, path)) => Some(deepest(value, path, offset).unwrap_or(path.clone())),
        None => below.iter().find_map(|(_, value, path)| deepest(value, path, offset)),
    }
}

/// Whether a key or its value contains `offset`. A table with a header of its own does not contain
/// what is below that header.
fn is_at(key: Option<&Spanned<DeString<'_>>>, value: &Spanned<DeValue<'_>>, offset: usize) -> bool {
    value.span().contains(&offset) || key.is_some_and(|key| key.span().contains(&offset))
}
