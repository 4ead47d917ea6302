//! A parsed TOML file in which every value has a path and a line, so that errors can say where they
//! are.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{DeserializeOwned, IntoDeserializer};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::path::{PathStep, join, steps};
use super::variables::expand_all;
use super::words::{found, in_plain_words};

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
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// The lines of all values: what is kept of a file after reading, for later errors.
#[derive(Clone, Debug)]
pub struct Places {
    file: String,
    /// Lines, from 1, by path.
    lines: BTreeMap<String, usize>,
}

impl Places {
    /// An error at `path`.
    pub fn error(&self, path: &str, message: impl Into<String>) -> ConfigError {
        ConfigError {
            file: self.file.clone(),
            line: self.line_of(path),
            path: path.to_owned(),
            message: message.into(),
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
        let (table, errors) = DeTable::parse_recoverable(text);
        let root = Spanned::new(table.span(), DeValue::Table(table.into_inner()));
        let newlines = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(offset, _)| offset)
            .collect();
        let places = Places { file, lines: BTreeMap::new() };
        let mut document = Self { newlines, root, places, unset: Vec::new() };
        if !errors.is_empty() {
            return Err(errors.iter().map(|error| document.syntax_error(error, text)).collect());
        }
        let mut lines = BTreeMap::new();
        document.find_lines(&document.root, "", &mut lines);
        document.places.lines = lines;
        let mut unset = Vec::new();
        expand_all(&mut document.root, String::new(), &variable, &mut unset);
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

    /// Deserializes the value at `path`, without the keys in `except`. `None`: there is no value.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        except: &[&str],
    ) -> Option<Result<T, ConfigError>> {
        let mut value = self.value(path)?.clone();
        if let DeValue::Table(table) = value.get_mut() {
            for key in except {
                table.remove(*key);
            }
        }
        Some(
            T::deserialize(value.into_deserializer())
                .map_err(|error| self.toml_error(&error, path.to_owned())),
        )
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
    fn toml_error(&self, error: &toml::de::Error, within: String) -> ConfigError {
        let path = match error.span() {
            Some(span) => {
                self.value(&within).map(|value| deepest(value, within.clone(), span.start))
            }
            None => None,
        };
        ConfigError {
            file: self.places.file.clone(),
            line: error
                .span()
                .map(|span| self.line_at(span.start))
                .or_else(|| self.places.line_of(&within)),
            path: path.unwrap_or(within),
            message: in_plain_words(error.message()),
        }
    }

    /// The same for a syntax error. Duplicate keys get their name: they have no path.
    fn syntax_error(&self, error: &toml::de::Error, text: &str) -> ConfigError {
        let mut syntax_error = self.toml_error(error, String::new());
        if let Some(key) = error.span().and_then(|span| text.get(span))
            && syntax_error.message == "duplicate key"
        {
            syntax_error.message = format!("duplicate key `{key}`");
        }
        syntax_error
    }
}

/// The path of the innermost value whose key or value contains `offset`.
fn deepest(value: &Spanned<DeValue<'_>>, path: String, offset: usize) -> String {
    let below = match value.get_ref() {
        DeValue::Table(table) => table
            .iter()
            .find(|(key, value)| key.span().contains(&offset) || value.span().contains(&offset))
            .map(|(key, value)| (value, join(&path, key.get_ref()))),
        DeValue::Array(array) => array
            .iter()
            .enumerate()
            .find(|(_, value)| value.span().contains(&offset))
            .map(|(index, value)| (value, format!("{path}[{index}]"))),
        _ => None,
    };
    match below {
        Some((value, path)) => deepest(value, path, offset),
        None => path,
    }
}
