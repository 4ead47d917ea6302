//! What of a file is too long to be repeated whole in a message.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::DeValue;

use super::path::join;

/// So many characters of a text are shown: enough to know it again.
const SHOWN: usize = 60;

/// The beginning of a text.
pub(super) fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// The long keys and strings of a file, each with its path. There are hardly any.
#[derive(Clone, Debug, Default)]
pub(super) struct LongTexts(Vec<(String, String)>);

impl LongTexts {
    /// Adds those at `path` and below.
    pub(super) fn find(&mut self, value: &Spanned<DeValue<'_>>, path: &str) {
        match value.get_ref() {
            DeValue::String(text) => self.add(path, text),
            DeValue::Table(table) => {
                for (key, value) in table {
                    let path = join(path, key.get_ref());
                    self.add(&path, key.get_ref());
                    self.find(value, &path);
                }
            }
            DeValue::Array(array) => {
                for (index, value) in array.iter().enumerate() {
                    self.find(value, &format!("{path}[{index}]"));
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, path: &str, text: &str) {
        if let Cow::Owned(_) = shortened(text) {
            self.0.push((path.to_owned(), text.to_owned()));
        }
    }

    /// A message about what is at `path`, with no more than the beginning of what it repeats.
    pub(super) fn in_short(&self, path: &str, message: String) -> String {
        let there = self.0.iter().filter(|(at, _)| at.starts_with(path));
        there.fold(message, |message, (_, text)| {
            message.replace(&format!("`{text}`"), &format!("`{}`", shortened(text)))
        })
    }
}
