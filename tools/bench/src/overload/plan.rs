//! What is measured: the service's capacity, when how many requests come, and what the proxies are
//! called.

use std::ops::Range;
use std::time::Duration;

/// The service works on so many requests at once, for so long each.
pub(crate) const SERVERS: usize = 10;
pub(crate) const SERVICE_TIME: Duration = Duration::from_millis(50);
/// So it answers so many requests a second.
pub(crate) const CAPACITY: f64 = 200.0;

/// An answer is good within this time.
pub(crate) const GOOD: Duration = Duration::from_millis(250);
/// After this time a client leaves.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// The seconds of each phase.
#[derive(Debug)]
pub(crate) struct Phases {
    pub(crate) overload: Range<usize>,
    /// The part of it that figures are of: what a proxy has to learn, it knows by then.
    pub(crate) measured: Range<usize>,
    pub(crate) after: Range<usize>,
}

pub(crate) const PHASES: Phases = Phases { overload: 4..18, measured: 10..18, after: 18..SECONDS };
/// All of them.
pub(crate) const SECONDS: usize = 23;

/// How many requests come in this second.
pub(crate) fn rate(second: usize) -> u32 {
    let of_capacity = if PHASES.overload.contains(&second) { 3.0 } else { 0.75 };
    (CAPACITY * of_capacity) as u32
}

/// What is told of a proxy: its name in raw data, and its title.
const TITLES: [(&str, &str); 9] = [
    ("fusebox", "fusebox, nothing"),
    ("fusebox-retry-unbounded", "fusebox, retries without a budget"),
    ("fusebox-retry", "fusebox, retries within the budget"),
    ("fusebox-hedge", "fusebox, hedges within the budget"),
    ("fusebox-throttler", "fusebox, adaptive throttler"),
    ("fusebox-limiter", "fusebox, adaptive limiter"),
    ("envoy", "Envoy, nothing"),
    ("envoy-admission", "Envoy, admission_control"),
    ("envoy-concurrency", "Envoy, adaptive_concurrency"),
];

pub(crate) fn title(name: &str) -> &str {
    TITLES.iter().find(|(known, _)| *known == name).map_or(name, |(_, title)| title)
}

/// Its position in tables and plots.
pub(crate) fn rank(name: &str) -> usize {
    TITLES.iter().position(|(known, _)| *known == name).unwrap_or(TITLES.len())
}
