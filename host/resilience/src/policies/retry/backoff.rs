//! Delays between attempts, pure: the step and chance are passed in.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::config::{ConfigDuration, Problems};

/// A delay that grows with each retry.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct BackoffConfig {
    /// Before the first retry; 1 ms to `max_delay`. Default 100 ms.
    pub delay: ConfigDuration,
    /// The longest. Default 5 s.
    pub max_delay: ConfigDuration,
    /// From one to the next; at least 1. Default 2.
    pub factor: f64,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            delay: ConfigDuration::from_millis(100),
            max_delay: ConfigDuration::from_secs(5),
            factor: 2.0,
        }
    }
}

/// A delay drawn evenly from `min` to `max`, anew for each retry.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RandomDelayConfig {
    /// The shortest.
    pub min: ConfigDuration,
    /// The longest; at least `min`.
    pub max: ConfigDuration,
}

/// Spreads delays so that callers who failed together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum JitterConfig {
    /// Evenly drawn from 0 to the delay.
    Full,
    /// Up to so much either way, at most 1 h.
    Duration(ConfigDuration),
    /// Up to this part of the delay either way, 0 to 1.
    Factor(f64),
}

impl<'de> Deserialize<'de> for JitterConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct JitterVisitor;
        impl Visitor<'_> for JitterVisitor {
            type Value = JitterConfig;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"full\", a duration such as \"50ms\", or a factor from 0 to 1")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<JitterConfig, E> {
                if text == "full" {
                    return Ok(JitterConfig::Full);
                }
                ConfigDuration::deserialize(de::value::StrDeserializer::<E>::new(text))
                    .map(JitterConfig::Duration)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_f64<E: de::Error>(self, factor: f64) -> Result<JitterConfig, E> {
                Ok(JitterConfig::Factor(factor))
            }

            fn visit_i64<E: de::Error>(self, factor: i64) -> Result<JitterConfig, E> {
                Ok(JitterConfig::Factor(factor as f64))
            }
        }
        deserializer.deserialize_any(JitterVisitor)
    }
}

impl JitterConfig {
    const LONGEST: ConfigDuration = ConfigDuration::from_secs(60 * 60);

    pub(super) fn build(self, problems: &mut Problems) -> Jitter {
        let either_way = |most| Jitter { spread: JitterSpread::EitherWay(most), lengthening: most };
        match self {
            Self::Full => Jitter::FULL,
            Self::Duration(most) => {
                problems.require_time_or_zero(most, "jitter");
                problems.require(most <= Self::LONGEST, "jitter", || {
                    format!("must be at most {}, is {most}", Self::LONGEST)
                });
                either_way(Most::Time(most.0))
            }
            Self::Factor(factor) => {
                problems.require((0.0..=1.0).contains(&factor), "jitter", || {
                    format!("a factor must be from 0 to 1, is {factor}")
                });
                either_way(Most::Part(factor))
            }
        }
    }
}

/// The policy's own delays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Delays {
    Fixed(Duration),
    Backoff { delay: Duration, max_delay: Duration, factor: f64 },
    Random { min: Duration, max: Duration },
}

impl Delays {
    pub(super) fn build(
        delay: Option<ConfigDuration>,
        backoff: Option<BackoffConfig>,
        random: Option<RandomDelayConfig>,
        problems: &mut Problems,
    ) -> Self {
        let given = [delay.is_some(), backoff.is_some(), random.is_some()];
        if given.into_iter().filter(|given| *given).count() > 1 {
            problems.add("delay", "give at most one of `delay`, `backoff` and `random_delay`");
        }
        if let Some(delay) = delay {
            problems.require_time_or_zero(delay, "delay");
            return Self::Fixed(delay.0);
        }
        if let Some(RandomDelayConfig { min, max }) = random {
            problems.require_time_or_zero(min, "random_delay.min");
            problems.require_time_or_zero(max, "random_delay.max");
            problems.require(min <= max, "random_delay.max", || {
                format!("must be at least `min`, which is {min}, is {max}")
            });
            return Self::Random { min: min.0, max: max.0 };
        }
        let BackoffConfig { delay, max_delay, factor } = backoff.unwrap_or_default();
        problems.require_time(delay, "backoff.delay");
        problems.require_time(max_delay, "backoff.max_delay");
        let is_capped = delay > max_delay && max_delay >= ConfigDuration::SHORTEST;
        problems.require(!is_capped, "backoff.delay", || {
            format!("must be at most `max_delay`, which is {max_delay}, is {delay}")
        });
        problems.require(factor.is_finite() && factor >= 1.0, "backoff.factor", || {
            format!("must be at least 1, is {factor}")
        });
        Self::Backoff { delay: delay.0, max_delay: max_delay.0, factor }
    }

    /// The first one, at the shortest, and the key that says so.
    pub(super) fn first(&self) -> (&'static str, Duration) {
        let first = self.delay(0, 0.0);
        match self {
            Self::Fixed(_) => ("delay", first),
            Self::Random { .. } => ("random_delay", first),
            Self::Backoff { .. } => ("backoff", first),
        }
    }

    /// None is longer.
    pub(super) fn longest(&self) -> Duration {
        match *self {
            Self::Fixed(delay) => delay,
            Self::Random { max, .. } => max,
            Self::Backoff { max_delay, .. } => max_delay,
        }
    }

    /// The delay number `step`, from 0. `fraction` is chance, 0 to 1.
    pub(super) fn delay(&self, step: u32, fraction: f64) -> Duration {
        match *self {
            Self::Fixed(delay) => delay,
            Self::Random { min, max } => min + (max - min).mul_f64(fraction),
            Self::Backoff { delay, max_delay, factor } => {
                let grown = delay.as_secs_f64() * factor.powf(f64::from(step));
                if grown < max_delay.as_secs_f64() {
                    Duration::from_secs_f64(grown)
                } else {
                    max_delay
                }
            }
        }
    }
}

/// How delays are spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Jitter {
    spread: JitterSpread,
    /// By how much a wait grows that somebody else asked for.
    lengthening: Most,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum JitterSpread {
    Full,
    EitherWay(Most),
}

/// The most that a delay changes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Most {
    Time(Duration),
    Part(f64),
}

impl Jitter {
    /// Callers that were told the same time must not come back in the same moment.
    const LENGTHENING: Most = Most::Part(0.2);
    const FULL: Self = Self { spread: JitterSpread::Full, lengthening: Self::LENGTHENING };

    /// What these delays have if the file does not say. A backoff is for the time after a failure,
    /// which many share; a fixed or random delay is taken at its word.
    pub(super) fn default_of(delays: Delays) -> Self {
        match delays {
            Delays::Backoff { .. } => Self::FULL,
            Delays::Fixed(_) | Delays::Random { .. } => Self {
                spread: JitterSpread::EitherWay(Most::Part(0.0)),
                lengthening: Self::LENGTHENING,
            },
        }
    }

    /// An own delay. One of 0 stays 0, as in failsafe-go.
    pub(super) fn spread(self, delay: Duration, fraction: f64) -> Duration {
        match self.spread {
            JitterSpread::Full => delay.mul_f64(fraction),
            JitterSpread::EitherWay(_) if delay.is_zero() => delay,
            JitterSpread::EitherWay(most) => {
                let most = most.of(delay);
                (delay + most.mul_f64(2.0 * fraction)).saturating_sub(most)
            }
        }
    }

    /// The shortest that an own delay becomes.
    pub(super) fn shortest(self, delay: Duration) -> Duration {
        self.spread(delay, 0.0)
    }

    /// The longest that an own delay becomes.
    pub(super) fn longest(self, delay: Duration) -> Duration {
        self.spread(delay, 1.0)
    }

    /// A wait that was asked for: only longer, so that nobody comes back before its time.
    pub(super) fn lengthen(self, asked: Duration, fraction: f64) -> Duration {
        asked + self.lengthening.of(asked).mul_f64(fraction)
    }
}

impl Most {
    fn of(self, delay: Duration) -> Duration {
        match self {
            Self::Time(most) => most,
            Self::Part(part) => delay.mul_f64(part),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(from: u64, to: u64) -> impl Strategy<Value = Duration> {
        (from..to).prop_map(Duration::from_millis)
    }

    proptest! {
        #[test]
        fn backoff_never_shrinks_and_never_passes_its_maximum(
            delay in millis(1, 100_000), max_delay in millis(1, 100_000), factor in 1.0..10.0_f64,
        ) {
            let delays = Delays::Backoff { delay, max_delay, factor };
            let sequence: Vec<_> = (0..40).map(|step| delays.delay(step, 0.0)).collect();
            prop_assert!(sequence.is_sorted());
            prop_assert_eq!(sequence[0], delay.min(max_delay));
            prop_assert!(sequence.iter().all(|delay| *delay <= max_delay));
        }

        #[test]
        fn a_random_delay_stays_between_its_bounds(
            min in millis(0, 1000), more in millis(0, 1000), fraction in 0.0..1.0_f64,
        ) {
            let delay = Delays::Random { min, max: min + more }.delay(0, fraction);
            prop_assert!(min <= delay && delay <= min + more);
        }

        #[test]
        fn jitter_stays_within_its_bound_and_only_lengthens_what_was_asked_for(
            delay in millis(1, 10_000), most in millis(0, 20_000),
            factor in 0.0..1.0_f64, fraction in 0.0..1.0_f64,
        ) {
            for (jitter, bound) in [
                (JitterConfig::Duration(ConfigDuration(most)), most),
                (JitterConfig::Factor(factor), delay.mul_f64(factor)),
            ] {
                let jitter = jitter.build(&mut Problems::default());
                let spread = jitter.spread(delay, fraction);
                prop_assert!(delay.saturating_sub(bound) <= spread && spread <= delay + bound);
                let lengthened = jitter.lengthen(delay, fraction);
                prop_assert!(delay <= lengthened && lengthened <= delay + bound);
            }
            prop_assert!(Jitter::FULL.spread(delay, fraction) <= delay);
            let lengthened = Jitter::FULL.lengthen(delay, fraction);
            prop_assert!(delay <= lengthened && lengthened <= delay.mul_f64(1.2));
        }
    }

    #[test]
    fn no_number_of_retries_overflows_the_backoff() {
        let delays = Delays::Backoff {
            delay: Duration::from_millis(1),
            max_delay: Duration::from_secs(5),
            factor: 10.0,
        };
        assert_eq!(delays.delay(u32::MAX, 0.0), Duration::from_secs(5));
    }
}
