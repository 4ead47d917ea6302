//! What a breaker costs workers that share it, by how it counts and by how many of them call at
//! once: the time of a healthy call through it and nothing else, on the slowest thread. Beside it,
//! the same threads with a breaker each.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fusebox_resilience::config::ConfigDuration;
use fusebox_resilience::testing::{self, NoParts};
use fusebox_resilience::{
    Attempt, Call, CircuitBreaker, CircuitBreakerConfig, Observers, Outcome, Pipeline, Policy,
    PolicyConfig, Response, ResponseBody, Scope, Upstream,
};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

/// Answers 200 at once.
struct Ready;

impl Upstream for Ready {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        let attempt = Attempt::begin(call, scope, &"service-b".into());
        Box::pin(async move {
            attempt.finish(Ok(Response::new(
                StatusCode::OK,
                HeaderMap::new(),
                ResponseBody::empty(),
            )))
        })
    }
}

fn breaker(config: &CircuitBreakerConfig) -> Arc<dyn Policy> {
    let breaker: CircuitBreaker =
        config.clone().build("breaker".into(), &NoParts).expect("a sound breaker");
    Arc::new(breaker)
}

/// So many calls on each thread, through a pipeline each. The time of the slowest.
fn time(pipelines: Vec<Pipeline>, calls: u64) -> Duration {
    let start = Arc::new(Barrier::new(pipelines.len()));
    let thread = |pipeline: Pipeline| {
        let start = start.clone();
        thread::spawn(move || {
            let call = testing::call("1", Observers::default());
            start.wait();
            let started = Instant::now();
            for _ in 0..calls {
                black_box(
                    pipeline
                        .execute(&call, &Scope::new(&Ready))
                        .now_or_never()
                        .expect("ready at once"),
                )
                .expect("a response");
            }
            started.elapsed()
        })
    };
    let threads: Vec<_> = pipelines.into_iter().map(thread).collect();
    threads.into_iter().map(|thread| thread.join().expect("no panic")).max().unwrap_or_default()
}

fn contention(criterion: &mut Criterion) {
    let period = Some(ConfigDuration::from_secs(10));
    let configs = [
        ("in a row", CircuitBreakerConfig::default()),
        ("rate", CircuitBreakerConfig { failure_rate: Some(0.5), period, ..Default::default() }),
    ];
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut group = criterion.benchmark_group("breaker");
    for (name, config) in &configs {
        for threads in [1, cores] {
            group.bench_function(BenchmarkId::new(format!("{name}, shared"), threads), |bencher| {
                bencher.iter_custom(|calls| {
                    let shared = breaker(config);
                    time((0..threads).map(|_| Pipeline::new(vec![shared.clone()])).collect(), calls)
                });
            });
            group.bench_function(
                BenchmarkId::new(format!("{name}, one each"), threads),
                |bencher| {
                    bencher.iter_custom(|calls| {
                        time(
                            (0..threads).map(|_| Pipeline::new(vec![breaker(config)])).collect(),
                            calls,
                        )
                    });
                },
            );
        }
    }
    group.finish();
}

criterion_group!(benches, contention);
criterion_main!(benches);
