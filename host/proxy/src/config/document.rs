//! A TOML file with its places: every value knows its path and line, so that every error can say
//! where it is.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use serde::de::{DeserializeOwned, IntoDeserializer};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Something wrong in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as it was named.
    pub file: String,
    /// From 1; none if the place does not exist.
    pub line: Option<usize>,
    /// The key from the top: `policies.retry.max_retries`. Empty for the file itself.
    pub path: String,
    /// What was expected, and what was found.
    pub message: String,
}

impl ConfigError {
    /// The file is not there, or can't be read.
    pub(crate) fn unreadable(file: &Path, error: &std::io::Error) -> Self {
        let message = format!("can't be read: {error}");
        Self { file: file.display().to_string(), line: None, path: String::new(), message }
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

/// A parsed file, with `${VAR}` and `${VAR:-default}` expanded inside its strings.
#[derive(Debug)]
pub struct Document<'t> {
    file: String,
    text: &'t str,
    /// Where lines end.
    newlines: Vec<usize>,
    root: Spanned<DeValue<'t>>,
    unset: Vec<ConfigError>,
}

impl<'t> Document<'t> {
    /// Parses `text`; `variable` looks up environment variables. What it does not find is among the
    /// [`problems`](Self::problems).
    ///
    /// # Errors
    /// All that is not TOML.
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
        let mut document = Self { file, text, newlines, root, unset: Vec::new() };
        if !errors.is_empty() {
            return Err(errors.iter().map(|error| document.syntax_error(error)).collect());
        }
        let mut unset = Vec::new();
        expand_all(&mut document.root, String::new(), &variable, &mut unset);
        document.unset =
            unset.into_iter().map(|(path, message)| document.error(&path, message)).collect();
        Ok(document)
    }

    /// All that is wrong, in the file's order: the variables that are not set, and `others`, but
    /// for those that only follow from them.
    pub fn problems(&self, others: impl IntoIterator<Item = ConfigError>) -> Vec<ConfigError> {
        let unset: HashSet<&str> = self.unset.iter().map(|unset| unset.path.as_str()).collect();
        let follows = |other: &ConfigError| unset.contains(other.path.as_str());
        let mut problems = self.unset.clone();
        problems.extend(others.into_iter().filter(|other| !follows(other)));
        problems.sort_by_key(|problem| problem.line);
        problems
    }

    /// Something wrong at `path`.
    pub fn error(&self, path: &str, message: impl Into<String>) -> ConfigError {
        ConfigError {
            file: self.file.clone(),
            line: self.line_of(path),
            path: path.to_owned(),
            message: message.into(),
        }
    }

    /// The value at `path`, such as `policies.retry` or `routes[0].path`; the empty path is the
    /// whole.
    pub fn value(&self, path: &str) -> Option<&Spanned<DeValue<'t>>> {
        let mut value = &self.root;
        for step in steps(path) {
            value = match (step, value.get_ref()) {
                (Step::Key(key), DeValue::Table(table)) => table.get(key)?,
                (Step::Index(index), DeValue::Array(array)) => array.get(index)?,
                _ => return None,
            };
        }
        Some(value)
    }

    /// What the table at `path` says, without the keys in `except`. None: there is nothing at
    /// `path`.
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

    /// The keys of the table at `path`, sorted; none if there is nothing.
    pub(crate) fn keys(&self, path: &str) -> Result<Vec<String>, ConfigError> {
        match self.value(path).map(Spanned::get_ref) {
            None => Ok(Vec::new()),
            Some(DeValue::Table(table)) => {
                Ok(table.keys().map(|key| key.get_ref().to_string()).collect())
            }
            Some(other) => {
                Err(self.error(path, format!("expected a table, found {}", other.type_str())))
            }
        }
    }

    /// Whether the table at `path` has this key.
    pub(crate) fn has_key(&self, path: &str, key: &str) -> bool {
        matches!(self.value(path).map(Spanned::get_ref), Some(DeValue::Table(table)) if table.contains_key(key))
    }

    /// The length of the array at `path`; 0 if there is nothing.
    pub(super) fn length(&self, path: &str) -> Result<usize, ConfigError> {
        match self.value(path).map(Spanned::get_ref) {
            None => Ok(0),
            Some(DeValue::Array(array)) => Ok(array.len()),
            Some(other) => Err(self
                .error(path, format!("expected an array of tables, found {}", other.type_str()))),
        }
    }

    /// Where `path` is, or else the nearest thing above it that exists.
    fn line_of(&self, path: &str) -> Option<usize> {
        let mut path = path;
        loop {
            if path.is_empty() {
                return None;
            }
            if let Some(start) = self.start_of(path) {
                return Some(self.line_at(start));
            }
            path = path.rfind(['.', '[']).map_or("", |end| &path[..end]);
        }
    }

    /// Where the key of `path` starts, or the value if it stands in an array.
    fn start_of(&self, path: &str) -> Option<usize> {
        let value = self.value(path)?;
        if let Some((parent, key)) = path.rsplit_once('.').or(Some(("", path)))
            && !key.contains('[')
            && let DeValue::Table(table) = self.value(parent)?.get_ref()
            && let Some((key, _)) = table.get_key_value(key)
        {
            return Some(key.span().start);
        }
        Some(value.span().start)
    }

    fn line_at(&self, offset: usize) -> usize {
        self.newlines.partition_point(|newline| *newline < offset) + 1
    }

    /// An error of the TOML crate, whose span leads to the path. `within` is where it was looking.
    fn toml_error(&self, error: &toml::de::Error, within: String) -> ConfigError {
        let path = match error.span() {
            Some(span) => {
                self.value(&within).map(|value| deepest(value, within.clone(), span.start))
            }
            None => None,
        };
        ConfigError {
            file: self.file.clone(),
            line: error
                .span()
                .map(|span| self.line_at(span.start))
                .or_else(|| self.line_of(&within)),
            path: path.unwrap_or(within),
            message: in_plain_words(error.message()),
        }
    }

    /// Likewise, of text that is no document yet. A key that is there twice is not found by its
    /// place.
    fn syntax_error(&self, error: &toml::de::Error) -> ConfigError {
        let mut syntax_error = self.toml_error(error, String::new());
        if let Some(key) = error.span().and_then(|span| self.text.get(span))
            && syntax_error.message == "duplicate key"
        {
            syntax_error.message = format!("duplicate key `{key}`");
        }
        syntax_error
    }
}

/// serde's message in one line and in the words of the reference, not of Rust.
fn in_plain_words(message: &str) -> String {
    let mut plain = message.replace('\n', ", ");
    for (rust, word) in [
        ("expected i64", "expected a whole number"),
        ("expected u64", "expected a whole number of at least 0"),
        ("expected usize", "expected a whole number of at least 0"),
        ("expected f64", "expected a number"),
        ("expected parsable string", "expected a size such as \"64KiB\""),
    ] {
        plain = plain.replace(rust, word);
    }
    match plain.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected a table"),
        None => plain,
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

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

fn steps(path: &str) -> impl Iterator<Item = Step<'_>> {
    path.split(['.', '[']).filter(|step| !step.is_empty()).map(|step| {
        match step.strip_suffix(']') {
            Some(index) => index.parse().map_or(Step::Key(step), Step::Index),
            None => Step::Key(step),
        }
    })
}

fn expand_all(
    value: &mut Spanned<DeValue<'_>>,
    path: String,
    variable: &impl Fn(&str) -> Option<String>,
    unset: &mut Vec<(String, String)>,
) {
    match value.get_mut() {
        DeValue::String(text) if text.contains('$') => match expand(text, variable) {
            Ok(expanded) => *text = expanded.into(),
            Err(message) => unset.push((path, message)),
        },
        DeValue::Array(array) => {
            for (index, value) in array.iter_mut().enumerate() {
                expand_all(value, format!("{path}[{index}]"), variable, unset);
            }
        }
        DeValue::Table(table) => {
            for (key, value) in table.iter_mut() {
                expand_all(value, join(&path, key.get_ref()), variable, unset);
            }
        }
        _ => {}
    }
}

/// Expands `${VAR}` and `${VAR:-default}`; `$${` is a literal `${`. As in a shell, an empty
/// variable takes the default.
fn expand(text: &str, variable: &impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if let Some(before) = rest[..start].strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        expanded.push_str(&rest[..start]);
        let Some(end) = rest[start..].find('}') else {
            return Err("`${` without `}`; write `$${` for a literal one".to_owned());
        };
        let inside = &rest[start + 2..start + end];
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        match (variable(name).filter(|value| !value.is_empty() || default.is_none()), default) {
            (Some(value), _) => expanded.push_str(&value),
            (None, Some(default)) => expanded.push_str(default),
            (None, None) => {
                return Err(format!(
                    "environment variable `{name}` is not set; `${{{name}:-default}}` gives it a default"
                ));
            }
        }
        rest = &rest[start + end + 1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}
