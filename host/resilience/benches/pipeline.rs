//! What does the seam cost? A call through 0 to 7 policies that do nothing, through each real one
//! by itself, and through the four together, to an upstream that is ready at once. Everything is
//! ready at once, so each call is a single poll: no runtime, no timer that fires.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fusebox_resilience::config::ConfigDuration;
use fusebox_resilience::testing::{self, NoParts};
use fusebox_resilience::{
    Attempt, Call, CircuitBreakerConfig, FallbackConfig, Next, Observers, Outcome, Pipeline,
    Policy, PolicyConfig, RespondConfig, Response, ResponseBody, RetryConfig, Scope, TimeoutConfig,
    Upstream,
};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use http::{HeaderMap, StatusCode};

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
struct Ready(StatusCode);

impl Upstream for Ready {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        let attempt = Attempt::begin(call, scope, &"service-b".into());
        Box::pin(async move {
            attempt.finish(Ok(Response::new(self.0, HeaderMap::new(), ResponseBody::empty())))
        })
    }
}

/// Each with its defaults, from the outermost in.
fn policies() -> [Arc<dyn Policy>; 4] {
    let respond = RespondConfig { status: Some(200), ..Default::default() };
    let fallback = FallbackConfig { handle_if: None, respond }.build("fallback".into(), &NoParts);
    let retry = RetryConfig::default().build("retry".into(), &NoParts);
    let breaker = CircuitBreakerConfig::default().build("breaker".into(), &NoParts);
    let timeout = TimeoutConfig { limit: ConfigDuration(Duration::from_secs(10)) }
        .build("timeout".into(), &NoParts);
    [
        Arc::new(fallback.expect("a sound fallback")),
        Arc::new(retry.expect("a sound retry")),
        Arc::new(breaker.expect("a sound breaker")),
        Arc::new(timeout.expect("a sound timeout")),
    ]
}

fn pipeline(criterion: &mut Criterion) {
    // For the timeout's timer, which is made and never fires.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    let call = testing::call("1", Observers::default());
    let mut group = criterion.benchmark_group("pipeline");
    let mut measure = |id: BenchmarkId, policies: Vec<Arc<dyn Policy>>, status: StatusCode| {
        let (pipeline, upstream) = (Pipeline::new(policies), Ready(status));
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                black_box(
                    pipeline
                        .execute(&call, &Scope::new(&upstream))
                        .now_or_never()
                        .expect("ready at once"),
                )
            });
        });
    };
    for depth in [0, 1, 3, 5, 7] {
        let policies = (0..depth).map(|_| Arc::new(Nothing("nothing".into())) as _).collect();
        measure(BenchmarkId::new("no-op policies", depth), policies, StatusCode::OK);
    }
    for policy in policies() {
        let id = BenchmarkId::new("only", policy.name());
        measure(id, vec![policy], StatusCode::OK);
    }
    let [fallback, ..] = policies();
    measure(
        BenchmarkId::new("only", "fallback, that answers a 503"),
        vec![fallback],
        StatusCode::SERVICE_UNAVAILABLE,
    );
    measure(
        BenchmarkId::from_parameter("fallback, retry, breaker, timeout"),
        policies().to_vec(),
        StatusCode::OK,
    );
    group.finish();
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
