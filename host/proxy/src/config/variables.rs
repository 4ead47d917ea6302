//! `${VAR}` and `${VAR:-default}` inside strings.

use toml::Spanned;
use toml::de::DeValue;

use super::long_texts::shortened;
use super::path::join;

/// Expands variables in all strings of `value`. Adds a path and a message to `unset` for each
/// string that can't be expanded.
pub(super) fn expand_all(
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
