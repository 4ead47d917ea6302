//! `probation`: how long a new version has to prove itself.

use std::fmt;

use fusebox_resilience::config::ConfigDuration;
use serde::de::{self, IntoDeserializer, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// How long a new version is on probation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probation {
    /// For so many calls,
    Calls(u64),
    /// or for so long.
    Time(ConfigDuration),
}

impl<'de> Deserialize<'de> for Probation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ProbationVisitor;
        impl Visitor<'_> for ProbationVisitor {
            type Value = Probation;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"60s\", or a number of calls")
            }

            fn visit_i64<E: de::Error>(self, calls: i64) -> Result<Probation, E> {
                let unexpected = || E::invalid_value(Unexpected::Signed(calls), &self);
                u64::try_from(calls).map(Probation::Calls).map_err(|_| unexpected())
            }

            fn visit_str<E: de::Error>(self, time: &str) -> Result<Probation, E> {
                let read =
                    ConfigDuration::deserialize(IntoDeserializer::<E>::into_deserializer(time));
                read.map(Probation::Time)
                    .map_err(|_| E::invalid_value(Unexpected::Str(time), &self))
            }
        }
        deserializer.deserialize_any(ProbationVisitor)
    }
}
