//! A delay that a component may decide: as the file says it, and as policies ask for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use tokio::time::Instant;

use crate::call::Call;
use crate::condition;
use crate::config::{ConfigDuration, Problems};
use crate::delayer::{DelayDecision, Delayer};
use crate::native::Native;
use crate::outcome::Outcome;
use crate::parts::Parts;
use crate::predicate::Exchange;
use crate::slot::Slot;

/// A delay as the file says it: `"1s"`, or `{ component = "NAME", own = "1s" }`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DelayConfig {
    /// The policy's own. `None`: what it has without.
    pub own: Option<ConfigDuration>,
    /// The component that may say otherwise.
    pub component: Option<String>,
}

impl From<ConfigDuration> for DelayConfig {
    fn from(own: ConfigDuration) -> Self {
        Self { own: Some(own), component: None }
    }
}

impl DelayConfig {
    /// The policy's own, if it is given.
    pub(crate) fn own(config: Option<&Self>) -> Option<ConfigDuration> {
        config.and_then(|delay| delay.own)
    }

    /// The component to ask, if one is named. Problems go to `problems`.
    pub(crate) fn build(
        config: Option<Self>,
        parts: &dyn Parts,
        problems: &mut Problems,
    ) -> Option<ComponentDelay> {
        let component = config?.component?;
        match parts.delayer(&component) {
            Ok(delayer) => Some(ComponentDelay { component, delayer }),
            Err(message) => {
                problems.add("delay.component", message);
                None
            }
        }
    }
}

impl<'de> Deserialize<'de> for DelayConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct DelayTable {
            component: String,
            own: Option<ConfigDuration>,
        }

        struct DelayVisitor;
        impl<'de> Visitor<'de> for DelayVisitor {
            type Value = DelayConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"250ms\", or { component = \"NAME\" }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<DelayConfig, E> {
                ConfigDuration::deserialize(de::value::StrDeserializer::new(text)).map(Into::into)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DelayConfig, A::Error> {
                let table = de::value::MapAccessDeserializer::new(map);
                let DelayTable { component, own } = DelayTable::deserialize(table)?;
                Ok(DelayConfig { own, component: Some(component) })
            }
        }
        deserializer.deserialize_any(DelayVisitor)
    }
}

/// A component that a policy asks for its delays.
#[derive(Debug)]
pub(crate) struct ComponentDelay {
    component: String,
    delayer: Arc<dyn Delayer>,
}

impl ComponentDelay {
    /// Reads as much of the body ahead as it wants to see, and waits until it may be asked. A body
    /// that breaks off meanwhile changes the outcome.
    pub(crate) async fn prepare(&self, call: &Call, outcome: &mut Outcome) {
        if let Some(wanted) = self.delayer.peek() {
            condition::peek(call, wanted, outcome).await;
        }
        call.worker().question_turns().next().await;
    }

    /// What it says.
    pub(crate) fn after(
        &self,
        call: &Call,
        policy: &Arc<str>,
        deadline: Option<Instant>,
        outcome: &Outcome,
        own: Duration,
        count: u32,
    ) -> DelayDecision {
        let (slot, default) = (Slot::Delay, &Native::NOTHING);
        let seen = Exchange { call, outcome, policy, slot, deadline, default };
        self.delayer.after(&seen, own, count)
    }

    /// How much of a response body is kept for it to look at, in bytes.
    pub(crate) fn peeked(&self) -> usize {
        self.delayer.peek().map_or(0, |peek| peek.bytes)
    }
}

/// `, or as the component NAME says`.
impl fmt::Display for ComponentDelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ", or as component `{}` says", self.component)
    }
}
