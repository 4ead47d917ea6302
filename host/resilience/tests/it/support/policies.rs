//! Policies from TOML.

use std::sync::Arc;

use fusebox_resilience::config::Problem;
use fusebox_resilience::{
    AdaptiveLimiter, AdaptiveLimiterConfig, AdaptiveThrottler, AdaptiveThrottlerConfig, Budget,
    BudgetConfig, Bulkhead, BulkheadConfig, CacheConfig, CircuitBreaker, CircuitBreakerConfig,
    FallbackConfig, HedgeConfig, JitterConfig, Policy, PolicyConfig, RateLimiter,
    RateLimiterConfig, RetryConfig, Shown, TimeoutConfig,
};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::support::surroundings::Surroundings;

#[track_caller]
fn parse<T: DeserializeOwned>(text: &str) -> T {
    toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[track_caller]
fn sound<T>(built: Result<T, Vec<Problem>>) -> T {
    built.unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// With exact delays, unless the text says how they are spread.
#[track_caller]
pub(crate) fn retry(text: &str) -> Arc<dyn Policy> {
    retry_among(text, &Surroundings::default())
}

#[track_caller]
pub(crate) fn retry_among(text: &str, parts: &Surroundings) -> Arc<dyn Policy> {
    let mut config: RetryConfig = parse(text);
    config.jitter = config.jitter.or(Some(JitterConfig::Factor(0.0)));
    Arc::new(sound(config.build("retry".into(), parts)))
}

/// With the delays spread as they are by default.
#[track_caller]
pub(crate) fn spread_retry(text: &str) -> Arc<dyn Policy> {
    Arc::new(sound(parse::<RetryConfig>(text).build("retry".into(), &Surroundings::default())))
}

/// With exact delays, unless the text says how they are spread.
#[track_caller]
pub(crate) fn breaker(text: &str) -> Arc<CircuitBreaker> {
    breaker_among(text, &Surroundings::default())
}

#[track_caller]
pub(crate) fn breaker_among(text: &str, parts: &Surroundings) -> Arc<CircuitBreaker> {
    let mut config: CircuitBreakerConfig = parse(text);
    if !text.contains("delay_jitter") {
        config.delay_jitter = 0.0;
    }
    Arc::new(sound(config.build("breaker".into(), parts)))
}

#[track_caller]
pub(crate) fn cache_among(text: &str, parts: &Surroundings) -> Arc<dyn Policy> {
    Arc::new(sound(parse::<CacheConfig>(text).build("cache".into(), parts)))
}

#[track_caller]
pub(crate) fn bulkhead(text: &str) -> Arc<Bulkhead> {
    let config = parse::<BulkheadConfig>(text);
    Arc::new(sound(config.build("bulkhead".into(), &Surroundings::default())))
}

#[track_caller]
pub(crate) fn rate_limiter(text: &str) -> Arc<RateLimiter> {
    let config = parse::<RateLimiterConfig>(text);
    Arc::new(sound(config.build("limiter".into(), &Surroundings::default())))
}

#[track_caller]
pub(crate) fn timeout(limit: u64) -> Arc<dyn Policy> {
    timeout_of(&format!("limit = \"{limit}ms\""))
}

#[track_caller]
pub(crate) fn timeout_of(text: &str) -> Arc<dyn Policy> {
    let config = parse::<TimeoutConfig>(text);
    Arc::new(sound(config.build("timeout".into(), &Surroundings::default())))
}

#[track_caller]
pub(crate) fn fallback(text: &str) -> Arc<dyn Policy> {
    fallback_among(text, &Surroundings::default())
}

#[track_caller]
pub(crate) fn fallback_among(text: &str, parts: &Surroundings) -> Arc<dyn Policy> {
    Arc::new(sound(parse::<FallbackConfig>(text).build("fallback".into(), parts)))
}

#[track_caller]
pub(crate) fn adaptive(text: &str) -> Arc<AdaptiveLimiter> {
    adaptive_among(text, &Surroundings::default())
}

#[track_caller]
pub(crate) fn adaptive_among(text: &str, parts: &Surroundings) -> Arc<AdaptiveLimiter> {
    Arc::new(sound(parse::<AdaptiveLimiterConfig>(text).build("limiter".into(), parts)))
}

#[track_caller]
pub(crate) fn throttler(text: &str) -> Arc<AdaptiveThrottler> {
    throttler_among(text, &Surroundings::default())
}

#[track_caller]
pub(crate) fn throttler_among(text: &str, parts: &Surroundings) -> Arc<AdaptiveThrottler> {
    Arc::new(sound(parse::<AdaptiveThrottlerConfig>(text).build("throttler".into(), parts)))
}

#[track_caller]
pub(crate) fn hedge(text: &str) -> Arc<dyn Policy> {
    hedge_among(text, &Surroundings::default())
}

#[track_caller]
pub(crate) fn hedge_among(text: &str, parts: &Surroundings) -> Arc<dyn Policy> {
    Arc::new(sound(parse::<HedgeConfig>(text).build("hedge".into(), parts)))
}

/// What a policy shows under this name.
#[track_caller]
pub(crate) fn shown(policy: &dyn Policy, name: &str) -> u64 {
    let shown = policy.show().into_iter().find(|(field, _)| *field == name);
    match shown {
        Some((_, Shown::Gauge(count, _) | Shown::Count(count))) => count,
        other => panic!("{name}: {other:?}"),
    }
}

/// What is wrong with a piece of configuration, as `path: message`; what is wrong with its shape,
/// as TOML says it.
pub(crate) fn problems<C: DeserializeOwned, T>(
    text: &str,
    build: impl FnOnce(C) -> Result<T, Vec<Problem>>,
) -> Vec<String> {
    match toml::from_str::<C>(text).map(build) {
        Err(error) => vec![error.message().to_owned()],
        Ok(Err(problems)) => problems
            .into_iter()
            .map(|problem| format!("{}: {}", problem.path, problem.message))
            .collect(),
        Ok(Ok(_)) => Vec::new(),
    }
}

pub(crate) fn budget(max_rate: f64, min_concurrency: usize) -> Arc<Budget> {
    let config = BudgetConfig { max_rate, min_concurrency, ..BudgetConfig::default() };
    Arc::new(sound(config.build(Instant::now())))
}
