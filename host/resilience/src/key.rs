//! Whose call it is: a value of the request, such as a tenant's name, by which policies tell apart
//! what must not share a state.

mod config;
mod sources;

pub use config::{KeyConfig, KeySourceConfig};
pub use sources::query_values;

use std::borrow::Cow;
use std::future::ready;

use futures_util::future::Either;
use smallvec::SmallVec;

use crate::call::Call;
use crate::config::Problems;
use crate::keyer::KeyQuestion;
use crate::parts::Parts;
use crate::question_turns::QuestionTurn;
use crate::request::Request;
use sources::{FindKeyer, KeySource};

/// So many sources may make one key.
const MAX_SOURCES: usize = 8;

/// So many bytes of a value are kept to be shown.
const SHOWN: usize = 64;

impl KeyConfig {
    /// The key. Problems go to `problems`, under `path`.
    pub(crate) fn build(self, path: &str, parts: &dyn Parts, problems: &mut Problems) -> CallKey {
        self.with(path, &|component| parts.keyer(component), problems)
    }

    /// The same of parts of the request alone: no component can be asked.
    pub fn of_request(self, path: &str, problems: &mut Problems) -> CallKey {
        let none = |_: &str| Err("a component can't be asked here".to_owned());
        self.with(path, &none, problems)
    }

    fn with(self, path: &str, keyer: &FindKeyer<'_>, problems: &mut Problems) -> CallKey {
        let Self(sources) = self;
        problems.require((1..=MAX_SOURCES).contains(&sources.len()), path, || {
            format!("must have from 1 to {MAX_SOURCES} sources, has {}", sources.len())
        });
        let sources = sources.into_iter().filter_map(|source| {
            KeySource::build(source, keyer).map_err(|message| problems.add(path, message)).ok()
        });
        CallKey(sources.collect())
    }
}

/// Where the value comes from.
#[derive(Clone, Debug)]
pub struct CallKey(Box<[KeySource]>);

impl CallKey {
    /// How many values make one key.
    pub(crate) fn sources(&self) -> usize {
        self.0.len()
    }

    /// Waits until its component may be asked, if it has one.
    #[inline]
    pub(crate) fn turn<'a>(&self, call: &'a Call) -> QuestionTurn<'a> {
        let turns = call.worker().question_turns();
        let asks = || self.0.iter().any(|source| matches!(source, KeySource::Component(_)));
        if turns.are_due() && asks() { turns.next() } else { Either::Left(ready(())) }
    }

    /// Whether a part of the path is in it.
    pub fn reads_path(&self) -> bool {
        self.0.iter().any(|source| matches!(source, KeySource::PathSegment(_)))
    }

    /// The values of this call. A component among the sources is asked, so this is done once for
    /// each call and policy.
    pub(crate) fn values<'a>(&'a self, seen: &KeyQuestion<'a>) -> KeyValues<'a> {
        KeyValues(self.0.iter().map(|source| source.value(seen)).collect())
    }

    /// Hands each source's value of this request to `take`, in their order, without asking a
    /// component. False: there is none of any.
    pub fn values_of(&self, request: &Request, mut take: impl FnMut(Option<&[u8]>)) -> bool {
        let mut is_there = false;
        for source in &self.0 {
            let value = source.value_of(request);
            is_there |= value.is_some();
            take(value.as_deref());
        }
        is_there
    }
}

/// The values of a call, one for each source of the key, in their order. Without a key: none.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyValues<'a>(SmallVec<[Option<Cow<'a, [u8]>>; 1]>);

impl KeyValues<'_> {
    /// Whether there is one of any source.
    pub(crate) fn is_any(&self) -> bool {
        self.0.iter().any(Option::is_some)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Option<&[u8]>> {
        self.0.iter().map(Option::as_deref)
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
