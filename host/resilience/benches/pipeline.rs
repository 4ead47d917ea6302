//! What does the seam cost? A call through 0 to 7 policies that do nothing, and through the real four, to an upstream that
//! is ready at once. Everything is ready at once, so each call is a single poll: no runtime, no timer that fires.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fusebox_resilience::config::ConfigDuration;
use fusebox_resilience::testing::NoParts;
use fusebox_resilience::{
    Call, CircuitBreakerConfig, FallbackConfig, Next, Observers, Outcome, Pipeline, Policy, RequestBody, RespondConfig,
    Response, ResponseBody, RetryConfig, TimeoutConfig, Upstream,
};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use http::{HeaderMap, HeaderValue, Request, StatusCode};

/// Runs what is inside it, and nothing else.
#[derive(Debug)]
struct Nothing(Arc<str>);

impl Policy for Nothing {
    fn name(&self) -> &Arc<str> {
        &self.0
    }

    fn run<'a>(&'a self, call: &'a Call, next: Next<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move { next.run(call).await })
    }
}

/// Answers 200 at once.
struct Ready;

impl Upstream for Ready {
    fn attempt<'a>(&'a self, call: &'a Call) -> LocalBoxFuture<'a, Outcome> {
        let attempt = call.begin_attempt();
        Box::pin(
            async move { attempt.finish(Ok(Response::new(StatusCode::OK, HeaderMap::new(), ResponseBody::empty()))) },
        )
    }
}

/// Fallback, retry, breaker, timeout, with their defaults.
fn four() -> [Arc<dyn Policy>; 4] {
    let respond = RespondConfig { status: Some(200), ..Default::default() };
    let fallback = FallbackConfig { handle_if: None, respond }.build("fallback".into(), &NoParts);
    let retry = RetryConfig::default().build("retry".into(), &NoParts);
    let breaker = CircuitBreakerConfig::default().build("breaker".into(), &NoParts);
    let timeout = TimeoutConfig { limit: ConfigDuration(Duration::from_secs(10)) }.build("timeout".into());
    [
        Arc::new(fallback.expect("a sound fallback")),
        Arc::new(retry.expect("a sound retry")),
        Arc::new(breaker.expect("a sound breaker")),
        Arc::new(timeout.expect("a sound timeout")),
    ]
}

fn call() -> Call {
    let (head, ()) = Request::get("http://service-b/").body(()).expect("a valid request").into_parts();
    Call::new(
        HeaderValue::from_static("1"),
        "bench".into(),
        head,
        RequestBody::empty(),
        SystemTime::UNIX_EPOCH,
        Observers::default(),
    )
}

fn pipeline(criterion: &mut Criterion) {
    // For the timeout's timer, which is made and never fires.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    let call = call();
    let mut group = criterion.benchmark_group("pipeline");
    for depth in [0, 1, 3, 5, 7] {
        let policies: Vec<Arc<dyn Policy>> = (0..depth).map(|_| Arc::new(Nothing("nothing".into())) as _).collect();
        let pipeline = Pipeline::new(policies);
        group.bench_function(BenchmarkId::new("no-op policies", depth), |bencher| {
            bencher.iter(|| black_box(pipeline.execute(&call, &Ready).now_or_never().expect("ready at once")));
        });
    }
    let pipeline = Pipeline::new(four());
    group.bench_function("fallback, retry, breaker, timeout", |bencher| {
        bencher.iter(|| black_box(pipeline.execute(&call, &Ready).now_or_never().expect("ready at once")));
    });
    group.finish();
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
