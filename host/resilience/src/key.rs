//! Whose call it is: a value of the request, such as a tenant's name, by which policies tell apart
//! what must not share a state.

mod config;
mod sources;

pub use config::{KeyConfig, KeySourceConfig};
pub use sources::query_values;

use crate::config::Problems;
use crate::request::Request;
use sources::KeySource;

/// So many sources may make one key.
const MAX_SOURCES: usize = 8;

/// So many bytes of a value are kept to be shown.
const SHOWN: usize = 64;

impl KeyConfig {
    /// The key. Problems go to `problems`, under `path`.
    pub fn build(self, path: &str, problems: &mut Problems) -> CallKey {
        let Self(sources) = self;
        problems.require((1..=MAX_SOURCES).contains(&sources.len()), path, || {
            format!("must have from 1 to {MAX_SOURCES} sources, has {}", sources.len())
        });
        let sources = sources.into_iter().filter_map(|source| {
            KeySource::build(source).map_err(|message| problems.add(path, message)).ok()
        });
        CallKey(sources.collect())
    }
}

/// Where the value comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct CallKey(Box<[KeySource]>);

impl CallKey {
    /// How many values make one key.
    pub(crate) fn sources(&self) -> usize {
        self.0.len()
    }

    /// Hands each source's value of this request to `take`, in their order. False: there is none of
    /// any.
    pub fn values(&self, request: &Request, mut take: impl FnMut(Option<&[u8]>)) -> bool {
        let mut is_there = false;
        for source in &self.0 {
            let value = source.value(request);
            is_there |= value.is_some();
            take(value.as_deref());
        }
        is_there
    }
}

/// Values for people: the beginning of each.
#[derive(Debug, Default)]
pub(crate) struct ShownValues(Option<String>);

impl ShownValues {
    pub(crate) fn push(&mut self, value: Option<&[u8]>) {
        let shown = match &mut self.0 {
            Some(shown) => {
                shown.push_str(", ");
                shown
            }
            None => self.0.insert(String::new()),
        };
        let value = value.unwrap_or_default();
        let beginning = &value[..value.len().min(SHOWN)];
        shown.push_str(&String::from_utf8_lossy(beginning));
        if value.len() > SHOWN {
            shown.push('…');
        }
    }

    pub(crate) fn into_text(self) -> String {
        self.0.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
