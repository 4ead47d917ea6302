//! What does the seam cost? A call through 0 to 7 policies that do nothing, through each real one
//! by itself, through the usual four and all eleven together, to an upstream that is ready at once.
//! Everything is ready at once, so each call is a single poll: no runtime, no timer that fires.
//!
//! With `--calls NAME COUNT` it makes so many of one kind and nothing else: `bench micro` has their
//! instructions counted.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use fusebox_resilience::testing::{self, NoParts};
use fusebox_resilience::{
    AdaptiveLimiterConfig, AdaptiveThrottlerConfig, Attempt, Budget, BulkheadConfig, CacheConfig,
    Call, CircuitBreakerConfig, FallbackConfig, HedgeConfig, Next, Observers, Outcome, Pipeline,
    Policy, PolicyConfig, RateLimiterConfig, Response, ResponseBody, RetryConfig, Scope,
    TimeoutConfig, Upstream, clock,
};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

/// Runs what is inside it, and nothing else.
#[derive(Debug)]
struct Nothing(Arc<str>);

impl Policy for Nothing {
    fn name(&self) -> &Arc<str> {
        &self.0
    }

    fn kind(&self) -> &'static str {
        "nothing"
    }

    fn run<'a>(&'a self, call: &'a Call, next: Next<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move { next.run(call).await })
    }
}

/// Answers with this status at once.
struct Ready {
    status: StatusCode,
    budget: Budget,
}

impl Ready {
    fn with(status: StatusCode) -> Self {
        Self { status, budget: Budget::of_upstream(Instant::now()) }
    }
}

impl Upstream for Ready {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        let attempt = Attempt::begin(call, scope, &"service-b".into());
        Box::pin(async move {
            attempt.finish(Ok(Response::new(self.status, HeaderMap::new(), ResponseBody::empty())))
        })
    }

    fn budget(&self) -> Option<&Budget> {
        Some(&self.budget)
    }
}

/// A policy as the file says it.
fn policy<C: PolicyConfig>(text: &str) -> Arc<dyn Policy> {
    let config: C = toml::from_str(text).expect("a configuration");
    Arc::new(config.build(C::KIND.into(), &NoParts).expect("a sound policy"))
}

/// Each with its defaults as far as there are some, from the outermost in.
fn policies() -> [Arc<dyn Policy>; 4] {
    [
        policy::<FallbackConfig>("respond = { status = 200 }"),
        policy::<RetryConfig>(""),
        policy::<CircuitBreakerConfig>(""),
        policy::<TimeoutConfig>("limit = \"10s\""),
    ]
}

/// All kinds around each other, as they are recommended: ten, and a second timeout. The retries and
/// hedges are within the upstream's budget.
fn eleven() -> [Arc<dyn Policy>; 11] {
    let [fallback, retry, breaker, timeout] = policies();
    [
        fallback,
        policy::<CacheConfig>(""),
        policy::<TimeoutConfig>("limit = \"60s\""),
        retry,
        policy::<HedgeConfig>("delay = \"1s\""),
        breaker,
        policy::<AdaptiveThrottlerConfig>(""),
        policy::<RateLimiterConfig>("limit = 1000000\nper = \"1ms\""),
        policy::<BulkheadConfig>("max_concurrency = 100"),
        policy::<AdaptiveLimiterConfig>(""),
        timeout,
    ]
}

/// A kind of call.
struct Case {
    name: String,
    pipeline: Pipeline,
    upstream: Ready,
}

impl Case {
    fn new(name: impl Into<String>, policies: impl Into<Vec<Arc<dyn Policy>>>) -> Self {
        let (name, pipeline) = (name.into(), Pipeline::new(policies.into()));
        Self { name, pipeline, upstream: Ready::with(StatusCode::OK) }
    }

    /// As a worker makes it: in a turn, the time is read once.
    fn call(&self, call: &Call) -> Outcome {
        clock::turn(|| {
            let outcome = self.pipeline.execute(call, &Scope::new(&self.upstream)).now_or_never();
            outcome.expect("ready at once")
        })
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for depth in [0, 1, 3, 5, 7] {
        let nothing = || Arc::new(Nothing("nothing".into())) as Arc<dyn Policy>;
        let policies: Vec<_> = (0..depth).map(|_| nothing()).collect();
        cases.push(Case::new(format!("no-op policies/{depth}"), policies));
    }
    for policy in eleven() {
        // The second timeout costs what the first does.
        if policy.kind() == "timeout" && policy.outline().limit != Some(Duration::from_secs(10)) {
            continue;
        }
        cases.push(Case::new(format!("only/{}", policy.name()), [policy]));
    }
    let kept = policy::<CacheConfig>("default_ttl = \"1h\"");
    cases.push(Case::new("only/cache, a hit", [kept]));
    let [fallback, ..] = policies();
    let unavailable = Ready::with(StatusCode::SERVICE_UNAVAILABLE);
    let answers = Case::new("only/fallback, that answers a 503", [fallback]);
    cases.push(Case { upstream: unavailable, ..answers });
    cases.push(Case::new("fallback, retry, breaker, timeout", policies()));
    cases.push(Case::new("all eleven", eleven()));
    cases
}

fn main() {
    // For the timeout's timer, which is made and never fires.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    let call = testing::call("1", Observers::default());
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [first, name, count, ..] = &*arguments
        && first == "--calls"
    {
        let cases = cases();
        let case = cases.iter().find(|case| case.name == *name).expect("one of the cases");
        for _ in 0..count.parse().expect("a number") {
            drop(black_box(case.call(&call)));
        }
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("pipeline");
    for case in cases() {
        group.bench_function(BenchmarkId::from_parameter(&case.name), |bencher| {
            bencher.iter(|| black_box(case.call(&call)));
        });
    }
    group.finish();
    criterion.final_summary();
}
