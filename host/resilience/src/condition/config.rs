//! A condition as the file says it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};
use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use super::tree::{AttemptRange, Decider, HeaderPart, Part, Tree};
use crate::config::Problems;
use crate::native::{ListsConfig, Native, StatusConfig};
use crate::parts::Parts;
use crate::predicate::Predicate;

/// Conditions within conditions: more could not be read by anybody.
const MAX_DEPTH: usize = 8;
/// And so many in all.
const MAX_PARTS: usize = 64;

/// In the place of a part that is not valid, which has been told.
const REFUSED: Part = Part::Any(Vec::new());

/// A condition as the file says it: native lists and parts, conditions within it, or a component.
/// All that are given must hold.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ConditionConfig {
    /// Statuses: `"503"`, `"5xx"`, `"500-502"`. Left out: the slot's default.
    pub status: Option<Vec<StatusConfig>>,
    /// Failures by the names of the guest contract, or `"any"`. Left out: the slot's default.
    pub failure: Option<Vec<String>>,
    /// Statuses of gRPC, where the call is one: `"unavailable"`. Left out: the slot's default.
    pub grpc_status: Option<Vec<String>>,
    /// The component that decides.
    pub component: Option<String>,
    /// Outside this the component is not asked and the outcome is not taken.
    pub only: Option<OnlyConfig>,
    /// The request has one of these methods.
    pub method: Option<WordsConfig>,
    /// The response has each of these headers, with this value, or with any: `"*"`.
    pub header: Option<BTreeMap<String, String>>,
    /// The outcome is of an attempt of this number: `"1"`, `">=2"`.
    pub attempt: Option<AttemptsConfig>,
    /// One of these holds.
    pub any: Option<Vec<ConditionConfig>>,
    /// All of these hold.
    pub all: Option<Vec<ConditionConfig>>,
    /// This does not hold.
    pub not: Option<Box<ConditionConfig>>,
}

/// The filter in front of a component. A list left out means all of that kind.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct OnlyConfig {
    /// Statuses that the component is asked about.
    pub status: Option<Vec<StatusConfig>>,
    /// Failures that the component is asked about.
    pub failure: Option<Vec<String>>,
    /// Statuses of gRPC that the component is asked about.
    pub grpc_status: Option<Vec<String>>,
}

/// A word, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordsConfig(pub Vec<String>);

impl<'de> Deserialize<'de> for WordsConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordsVisitor;
        impl<'de> Visitor<'de> for WordsVisitor {
            type Value = WordsConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word, or a list of words")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<WordsConfig, E> {
                Ok(WordsConfig(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<WordsConfig, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(WordsConfig)
            }
        }
        deserializer.deserialize_any(WordsVisitor)
    }
}

/// The number of an attempt, or a bound: `"1"` (or `1`), `">=2"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptsConfig(pub String);

impl<'de> Deserialize<'de> for AttemptsConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AttemptsVisitor;
        impl Visitor<'_> for AttemptsVisitor {
            type Value = AttemptsConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number of an attempt such as \"1\" or \">=2\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<AttemptsConfig, E> {
                Ok(AttemptsConfig(text.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<AttemptsConfig, E> {
                Ok(AttemptsConfig(number.to_string()))
            }
        }
        deserializer.deserialize_any(AttemptsVisitor)
    }
}

impl ConditionConfig {
    /// What decides, where `default` does without any condition.
    pub(super) fn decider(
        self,
        key: &str,
        default: &Native,
        parts: &dyn Parts,
        problems: &mut Problems,
    ) -> Decider {
        if self.has_parts() {
            let mut builder = TreeBuilder { parts, problems, predicates: Vec::new(), count: 0 };
            let root = builder.root(self, key, default);
            return Decider::Tree(Box::new(Tree { root, predicates: builder.predicates }));
        }
        let Self { status: statuses, failure: failures, grpc_status: grpc, .. } = self;
        let lists = ListsConfig { statuses, failures, grpc };
        let Self { component, only, .. } = self;
        if let Some(component) = component {
            problems.require(!lists.is_any(), key, || ALONE.into());
            return match asked(&component, only, key, parts, problems) {
                Some((predicate, only)) => Decider::Ask { predicate, only },
                None => Decider::Native(default.replaced(lists, key, problems)),
            };
        }
        require_component(only.is_none(), key, problems);
        Decider::Native(default.replaced(lists, key, problems))
    }

    /// Whether it is more than lists or a component.
    fn has_parts(&self) -> bool {
        let Self { method, header, attempt, any, all, not, .. } = self;
        method.is_some()
            || header.is_some()
            || attempt.is_some()
            || any.is_some()
            || all.is_some()
            || not.is_some()
    }
}

const ALONE: &str = "a component decides alone; put `status`, `failure` and `grpc_status` into \
                     `only` to narrow what it is asked about";

fn require_component(ok: bool, key: &str, problems: &mut Problems) {
    problems
        .require(ok, &format!("{key}.only"), || "narrows a `component`, but none is named".into());
}

fn asked(
    component: &str,
    only: Option<OnlyConfig>,
    key: &str,
    parts: &dyn Parts,
    problems: &mut Problems,
) -> Option<(Arc<dyn Predicate>, Option<Native>)> {
    let only = only.map(|OnlyConfig { status, failure, grpc_status }| {
        let lists = ListsConfig { statuses: status, failures: failure, grpc: grpc_status };
        Native::EVERYTHING.replaced(lists, &format!("{key}.only"), problems)
    });
    match parts.predicate(component) {
        Ok(predicate) => Some((predicate, only)),
        Err(message) => {
            problems.add(format!("{key}.component"), message);
            None
        }
    }
}

struct TreeBuilder<'a> {
    parts: &'a dyn Parts,
    problems: &'a mut Problems,
    predicates: Vec<Arc<dyn Predicate>>,
    count: usize,
}

impl TreeBuilder<'_> {
    /// The outermost condition. Lists that are left out keep the slot's default, unless a component
    /// or other conditions decide in their place.
    fn root(&mut self, config: ConditionConfig, key: &str, default: &Native) -> Part {
        let has_lists =
            config.status.is_some() || config.failure.is_some() || config.grpc_status.is_some();
        let is_decided = config.component.is_some() || config.any.is_some() || config.all.is_some();
        // The default of a slot that takes nothing would leave nothing to the parts.
        let keeps_default = !is_decided && *default != Native::NOTHING;
        let lists = (has_lists || keeps_default).then_some(default);
        self.part(config, key, lists, 0)
    }

    /// A condition. Within others, a list that is left out beside one that is given takes nothing;
    /// without both, statuses and failures don't matter.
    fn part(
        &mut self,
        config: ConditionConfig,
        key: &str,
        default: Option<&Native>,
        depth: usize,
    ) -> Part {
        let mut all = Vec::new();
        let ConditionConfig { status, failure, grpc_status, component, only, .. } = config;
        let lists = ListsConfig { statuses: status, failures: failure, grpc: grpc_status };
        self.count += 1;
        let is_too_many = self.count > MAX_PARTS;
        if depth > MAX_DEPTH || is_too_many {
            // Of too many, once is enough.
            self.problems.require(is_too_many && self.count > MAX_PARTS + 1, key, || {
                format!(
                    "expected at most {MAX_DEPTH} conditions within each other, {MAX_PARTS} in all"
                )
            });
            return Part::All(all);
        }
        let is_alone = component.is_none() || !lists.is_any();
        self.problems.require(is_alone, key, || ALONE.into());
        require_component(only.is_none() || component.is_some(), key, self.problems);
        if default.is_some() || lists.is_any() {
            let default = default.unwrap_or(&Native::NOTHING);
            all.push(Part::Lists(default.replaced(lists, key, self.problems)));
        }
        if let Some(WordsConfig(names)) = config.method {
            all.push(self.methods(&names, key));
        }
        for (name, value) in config.header.unwrap_or_default() {
            all.push(self.header(&name, &value, key));
        }
        if let Some(AttemptsConfig(text)) = config.attempt {
            all.push(self.attempt(&text, key));
        }
        if let Some(parts) = config.any {
            all.push(Part::Any(self.list(parts, &format!("{key}.any"), depth)));
        }
        if let Some(parts) = config.all {
            all.push(Part::All(self.list(parts, &format!("{key}.all"), depth)));
        }
        if let Some(not) = config.not {
            let key = format!("{key}.not");
            all.push(Part::Not(Box::new(self.part(*not, &key, None, depth + 1))));
        }
        // Last: it is asked only if nothing before it decides.
        if let Some(component) = component {
            let found = asked(&component, only, key, self.parts, self.problems);
            all.extend(found.map(|(predicate, only)| {
                self.predicates.push(predicate);
                Part::Component { index: self.predicates.len() - 1, only }
            }));
        } else if all.is_empty() {
            self.problems.add(key, "expected a condition, found an empty table");
        }
        if all.len() == 1 { all.remove(0) } else { Part::All(all) }
    }

    fn list(&mut self, list: Vec<ConditionConfig>, key: &str, depth: usize) -> Vec<Part> {
        self.problems.require(!list.is_empty(), key, || {
            "expected at least one condition, found an empty list".into()
        });
        let list = list.into_iter().enumerate();
        list.map(|(at, part)| self.part(part, &format!("{key}[{at}]"), None, depth + 1)).collect()
    }

    fn methods(&mut self, names: &[String], key: &str) -> Part {
        self.problems.require(!names.is_empty(), &format!("{key}.method"), || {
            "expected at least one method, found an empty list".into()
        });
        let mut methods = Vec::new();
        for name in names {
            match Method::from_bytes(name.as_bytes()) {
                Ok(method) if *name == name.to_ascii_uppercase() => methods.push(method),
                _ => self.problems.add(
                    format!("{key}.method"),
                    format!("expected a method in capitals, found `{name}`"),
                ),
            }
        }
        Part::Method(methods)
    }

    fn header(&mut self, name: &str, value: &str, key: &str) -> Part {
        let key = format!("{key}.header.{name}");
        let value = if value == "*" { Ok(None) } else { HeaderValue::try_from(value).map(Some) };
        match (HeaderName::try_from(name), value) {
            (Ok(name), Ok(value)) => return Part::Header(HeaderPart { name, value }),
            (Err(_), _) => self.problems.add(key, "is not a valid header name"),
            (_, Err(_)) => self.problems.add(key, "is not a valid header value"),
        }
        REFUSED
    }

    fn attempt(&mut self, text: &str, key: &str) -> Part {
        let range = AttemptRange::parse(text);
        self.problems.require(range.is_some(), &format!("{key}.attempt"), || {
            format!("expected a number such as \"1\", \">=2\" or \"<3\", found `{text}`")
        });
        range.map_or(REFUSED, Part::Attempt)
    }
}
