//! `${VAR}` and `${VAR:-default}` inside strings.
//!
//! A string that is nothing but a variable may stand where a number or a boolean is expected. Which
//! that is only the key knows, so it stays a string until it is read and does not fit.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::DeValue;

use super::long_texts::shortened;
use super::path::join;

/// What has become of the variables of a file.
#[derive(Debug, Default)]
pub(super) struct ExpandedVariables {
    /// A path and a message for each string that can't be expanded.
    pub(super) unset: Vec<(String, String)>,
    /// What the strings say that are nothing but a variable, by where they begin.
    pub(super) whole: BTreeMap<usize, String>,
}

impl ExpandedVariables {
    /// Expands variables in all strings of `value`.
    pub(super) fn expand_all(
        &mut self,
        value: &mut Spanned<DeValue<'_>>,
        path: String,
        variable: &impl Fn(&str) -> Option<String>,
    ) {
        let start = value.span().start;
        match value.get_mut() {
            DeValue::String(text) if text.contains('$') => match expand(text, variable) {
                Ok(expanded) => {
                    if is_whole(text) {
                        self.whole.insert(start, expanded.clone());
                    }
                    *text = expanded.into();
                }
                Err(message) => self.unset.push((path, message)),
            },
            DeValue::Array(array) => {
                for (index, value) in array.iter_mut().enumerate() {
                    self.expand_all(value, format!("{path}[{index}]"), variable);
                }
            }
            DeValue::Table(table) => {
                for (key, value) in table.iter_mut() {
                    self.expand_all(value, join(&path, key.get_ref()), variable);
                }
            }
            _ => {}
        }
    }
}

/// Whether a text is nothing but a variable.
fn is_whole(text: &str) -> bool {
    text.starts_with("${") && text.find('}') == Some(text.len() - 1)
}

/// Takes the string that begins at `start` for the number or boolean that its variable says.
/// `false`: it is more than a variable, or that says something else.
pub(super) fn take_literally<'s>(
    value: &mut Spanned<DeValue<'s>>,
    whole: &'s BTreeMap<usize, String>,
    start: usize,
) -> bool {
    let is_it = value.span().start == start;
    match value.get_mut() {
        value @ DeValue::String(_) if is_it => {
            let literal = whole.get(&start).and_then(|text| literal(text));
            literal.map(|literal| *value = literal).is_some()
        }
        DeValue::Table(table) => {
            table.iter_mut().any(|(_, value)| take_literally(value, whole, start))
        }
        DeValue::Array(array) => array.iter_mut().any(|value| take_literally(value, whole, start)),
        _ => false,
    }
}

fn literal(text: &str) -> Option<DeValue<'_>> {
    let value = DeValue::parse(text).ok()?.into_inner();
    let is_literal = matches!(value, DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_));
    is_literal.then_some(value)
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
                let name = shortened(name);
                return Err(format!(
                    "environment variable `{name}` is not set; `${{{name}:-default}}` gives it a \
                     default"
                ));
            }
        }
        rest = &rest[start + end + 1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}
