//! What a case says: an exchange, and what is expected of the component.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use fusebox_resilience::config::ConfigDuration;
use fusebox_resilience::{ErrorKind, Failure, Fault, Slot};
use serde::de::{self, IntoDeserializer as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bindings::exports::fusebox::policy::delay::Decision;

/// An exchange, and what is expected.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct ComponentCase {
    /// A sentence that says what is expected, and why.
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) request: CaseRequest,
    /// What the attempt came to: this,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) response: Option<CaseResponse>,
    /// or this,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<Failure>,
    /// for short; the word of RFC 9209, where the failure has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure_detail: Option<String>,
    /// The number of the attempt; left out: the one after those of `history`, or 0 for a rejection
    /// of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attempt: Option<u32>,
    /// The attempts before, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) history: Vec<CasePast>,
    /// The address that it reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<SocketAddr>,
    /// `HTTP/1.1` or `HTTP/2`; left out: HTTP/1.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint_protocol: Option<String>,
    /// Since the request arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) elapsed: Option<ConfigDuration>,
    /// Until the nearest timeout; left out: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remaining: Option<ConfigDuration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) route: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
    /// What the component is asked for; left out: what `expect` is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) asked: Option<Slot>,
    /// Asked for a delay: what the policy would wait by itself; left out: 100 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) own: Option<ConfigDuration>,
    /// Asked for a delay: the number of the retry or opening; left out: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<u32>,
    /// In place of the settings that the component has otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) settings: Option<BTreeMap<String, String>>,
    pub(crate) expect: Expect,
    /// In its file, from 1.
    #[serde(skip)]
    pub(crate) line: usize,
}

/// What the client asked.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CaseRequest {
    pub(crate) method: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scheme: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) authority: Option<String>,
    pub(crate) path: String,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`; left out: HTTP/1.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) protocol: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: Headers,
}

impl Default for CaseRequest {
    fn default() -> Self {
        Self {
            method: "GET".into(),
            scheme: None,
            authority: None,
            path: "/".into(),
            protocol: None,
            headers: Headers::new(),
        }
    }
}

/// What the upstream answered.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaseResponse {
    pub(crate) status: u16,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: Headers,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<String>,
    /// In place of `body`, what is no text: each byte one character, as in the contract's headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body_bytes: Option<String>,
    /// Behind the body, where a component may see all of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) trailers: Headers,
}

/// A header's values.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(untagged, expecting = "expected a header value, or a list of them")]
pub(crate) enum Values {
    One(String),
    Many(Vec<String>),
}

pub(crate) type Headers = BTreeMap<String, Values>;

impl Values {
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        let values = match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        };
        values.iter().map(String::as_str)
    }
}

/// An attempt that has ended.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct CasePast {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<Failure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) elapsed: Option<ConfigDuration>,
}

/// What the component should say: one of these.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    /// Whether the condition takes the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) handled: Option<bool>,
    /// What the fallback answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) response: Option<ExpectedResponse>,
    /// True: the fallback leaves the outcome as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) declined: Option<bool>,
    /// How long to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) delay: Option<CaseDelay>,
    /// Whose call it is; empty: nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// How the call fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<Fault>,
    /// A part of what is said of the fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
}

/// What a component says of a delay: `"own"`, `"give-up"`, or a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CaseDelay {
    Own,
    Wait(ConfigDuration),
    GiveUp,
}

impl fmt::Display for CaseDelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("own"),
            Self::Wait(time) => time.fmt(f),
            Self::GiveUp => f.write_str("give-up"),
        }
    }
}

impl Serialize for CaseDelay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CaseDelay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "own" => Ok(Self::Own),
            "give-up" => Ok(Self::GiveUp),
            time => {
                let time = ConfigDuration::deserialize(time.into_deserializer());
                time.map(Self::Wait).map_err(|error: de::value::Error| {
                    de::Error::custom(format!("{error}; or \"own\" or \"give-up\""))
                })
            }
        }
    }
}

impl From<Decision> for CaseDelay {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Own => Self::Own,
            Decision::Wait(time) => Self::Wait(ConfigDuration(Duration::from_millis(time.into()))),
            Decision::GiveUp => Self::GiveUp,
        }
    }
}

/// What of a fallback's response is looked at: what is named.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectedResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    /// Those named are these; others don't matter.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: Headers,
    /// The whole body,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<String>,
    /// or parts of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) contains: Vec<String>,
}

/// The kind that is shown to guests as this failure.
pub(super) fn kind(failure: Failure, detail: Option<&str>) -> Option<ErrorKind> {
    let mut kinds = ErrorKind::ALL.into_iter().filter(|kind| kind.failure() == failure);
    kinds.find(|kind| detail.is_none_or(|detail| kind.name() == detail))
}

pub(super) fn millis(duration: Duration) -> ConfigDuration {
    ConfigDuration(Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
}
