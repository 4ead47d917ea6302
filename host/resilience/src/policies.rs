//! The policies, a module each, and the list of their kinds.

mod adaptive_limiter;
mod adaptive_throttler;
mod bulkhead;
mod cache;
mod circuit_breaker;
mod extra_budget;
mod fallback;
mod hedge;
pub(crate) mod methods;
mod rate_limiter;
mod retry;
mod timeout;
mod waiting;

pub use adaptive_limiter::{
    AdaptiveLimiter, AdaptiveLimiterConfig, LimiterQueueConfig, LimiterWindowConfig,
};
pub use adaptive_throttler::{AdaptiveThrottler, AdaptiveThrottlerConfig};
pub use bulkhead::{Bulkhead, BulkheadConfig};
pub use cache::{CacheConfig, ResponseCache};
pub use circuit_breaker::{
    CircuitBreaker, CircuitBreakerConfig, CircuitScopeConfig, CircuitStatus, WindowCounts,
};
pub use fallback::{Fallback, FallbackConfig, RespondConfig, is_set_by_host};
pub use hedge::{DelayQuantileConfig, Hedge, HedgeConfig};
pub use rate_limiter::{RateLimiter, RateLimiterConfig};
pub use retry::{BackoffConfig, JitterConfig, RandomDelayConfig, Retry, RetryConfig};
pub use timeout::{Timeout, TimeoutConfig};

use crate::policy::{PolicyKind, ReadPolicyConfig};

/// Every kind of policy, a row each.
pub fn policy_kinds<R: ReadPolicyConfig>() -> Vec<PolicyKind<R>> {
    vec![
        PolicyKind::of::<TimeoutConfig>(),
        PolicyKind::of::<RetryConfig>(),
        PolicyKind::of::<CircuitBreakerConfig>(),
        PolicyKind::of::<FallbackConfig>(),
        PolicyKind::of::<AdaptiveLimiterConfig>(),
        PolicyKind::of::<AdaptiveThrottlerConfig>(),
        PolicyKind::of::<BulkheadConfig>(),
        PolicyKind::of::<HedgeConfig>(),
        PolicyKind::of::<RateLimiterConfig>(),
        PolicyKind::of::<CacheConfig>(),
    ]
}
