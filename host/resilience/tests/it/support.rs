//! Policies from TOML, surroundings with fake components, upstreams and bodies made by hand, and
//! the [`Rig`] that runs a pipeline and tells times in milliseconds.

mod bodies;
mod policies;
mod rig;
mod several;
mod surroundings;
mod time;

pub(crate) use bodies::{Piece, pieces, request_body, response_body};
pub(crate) use policies::{
    adaptive, adaptive_among, breaker, breaker_among, budget, bulkhead, cache_among, fallback,
    fallback_among, hedge, hedge_among, problems, rate_limiter, retry, retry_among, shown,
    spread_retry, throttler, throttler_among, timeout, timeout_of,
};
pub(crate) use rig::{Answers, Ended, Rig, response};
pub(crate) use several::Several;
pub(crate) use surroundings::{Answer, Fake, FakeDelay, FakeKey, Surroundings, version};
pub(crate) use time::ms;
