//! What the file says of an adaptive limiter.

use serde::Deserialize;

use super::machine::LimiterSettings;
use crate::condition::ConditionConfig;
use crate::config::{ConfigDuration, Problems};
use crate::held_until::HeldUntil;
use crate::key::KeyConfig;

/// More are as good as unlimited.
const MAX_LIMIT: usize = 1_000_000;
/// How many results a window may have to have.
const MAX_MIN_SAMPLES: u64 = 1_000_000;
/// How many times the limit may wait.
const LONGEST_LINE: f64 = 100.0;

/// `kind = "adaptive-limiter"`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct AdaptiveLimiterConfig {
    /// Which outcomes say that the upstream has too much to do. Default: 429 and 503, timeouts and
    /// failures to connect.
    pub overload_if: Option<ConditionConfig>,
    /// The lowest limit, 1 to `max_limit`. Default 1.
    pub min_limit: usize,
    /// The highest limit, up to 1,000,000. Default 200.
    pub max_limit: usize,
    /// The limit at first, `min_limit` to `max_limit`. Default 20, or the nearest of these.
    pub initial_limit: Option<usize>,
    /// The limit is at most so many times the most calls in flight within a window, 1 to 1,000.
    /// Default 5.
    pub max_limit_factor: f64,
    /// How long a window is.
    pub window: LimiterWindowConfig,
    /// So many results a window has at least. Default 50.
    pub min_samples: u64,
    /// How many may wait for a place. Default: none; with priorities, two to three times the limit.
    pub queue: Option<LimiterQueueConfig>,
    /// How long a call waits for a place. Default: until its deadline.
    pub max_wait: Option<ConfigDuration>,
    /// Until when a call keeps its place. Default `"head"`: a slow client's download is not the
    /// upstream's load.
    pub until: HeldUntil,
    /// By which calls are told apart; each value has a limit of its own. Default: none.
    pub key: Option<KeyConfig>,
    /// So many keys, up to 1,000,000. Default 10,000.
    pub max_keys: Option<usize>,
    /// For so long a key that is not used is remembered. Default 10 min.
    pub idle: Option<ConfigDuration>,
}

/// A window is twice as long as the shortest time that the upstream took, within these.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct LimiterWindowConfig {
    /// At least 1 ms. Default 1 s.
    pub min: ConfigDuration,
    /// At least `min`. Default 30 s.
    pub max: ConfigDuration,
}

/// Whom to reject while others wait: from nobody to everybody.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct LimiterQueueConfig {
    /// Up to so many times the limit everybody may wait, 0 to 100.
    pub initial: f64,
    /// From so many times on nobody, `initial` to 100.
    pub max: f64,
}

impl Default for AdaptiveLimiterConfig {
    fn default() -> Self {
        Self {
            overload_if: None,
            min_limit: 1,
            max_limit: 200,
            initial_limit: None,
            max_limit_factor: 5.0,
            window: LimiterWindowConfig::default(),
            min_samples: 50,
            queue: None,
            max_wait: None,
            until: HeldUntil::Head,
            key: None,
            max_keys: None,
            idle: None,
        }
    }
}

impl Default for LimiterWindowConfig {
    fn default() -> Self {
        Self { min: ConfigDuration::from_secs(1), max: ConfigDuration::from_secs(30) }
    }
}

impl AdaptiveLimiterConfig {
    /// What the machine is told, if nothing is wrong.
    pub(super) fn settings(&self, problems: &mut Problems) -> LimiterSettings {
        if let Some(LimiterQueueConfig { initial, max }) = self.queue {
            problems.require_within(initial, 0.0..=LONGEST_LINE, "queue.initial");
            problems.require(max >= initial && max <= LONGEST_LINE, "queue.max", || {
                format!("must be from `initial`, {initial}, to {LONGEST_LINE}, is {max}")
            });
        }
        if let Some(max_wait) = self.max_wait {
            problems.require_time(max_wait, "max_wait");
        }
        problems.require_within(self.max_limit, 1..=MAX_LIMIT, "max_limit");
        problems.require_within(self.min_limit, 1..=self.max_limit.max(1), "min_limit");
        let (least, most) = (self.min_limit, self.max_limit.max(self.min_limit));
        let initial_limit = self.initial_limit.unwrap_or_else(|| 20.clamp(least, most));
        problems.require_within(initial_limit, least..=most, "initial_limit");
        problems.require_within(self.max_limit_factor, 1.0..=1000.0, "max_limit_factor");
        problems.require_within(self.min_samples, 1..=MAX_MIN_SAMPLES, "min_samples");
        let LimiterWindowConfig { min, max } = self.window;
        problems.require_time(min, "window.min");
        problems.require_least(max, min, "window.max");
        LimiterSettings {
            min_limit: self.min_limit as f64,
            max_limit: self.max_limit as f64,
            initial_limit: initial_limit as f64,
            max_limit_factor: self.max_limit_factor,
            shortest_window: min.0,
            longest_window: max.0,
            min_samples: self.min_samples,
            // Each limit gets its own.
            seed: 0,
        }
    }
}
