//! What finding a request's route costs, by the number of routes.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::time::Duration;

use fusebox::route::{Route, RouteMatch, RouteTable};
use fusebox_resilience::{Pipeline, ReplayLimit};
use http::Method;

fn table(routes: impl Iterator<Item = RouteMatch>) -> RouteTable {
    let route = |matches: RouteMatch| Route {
        name: Arc::from(matches.to_string()),
        matches,
        pipeline: Pipeline::new(Vec::new()),
        upstream: 0,
        replay_limit: ReplayLimit::default(),
        is_grpc: false,
        grpc_idle_timeout: Duration::ZERO,
        upgrades: Vec::new(),
        tunnel_idle_timeout: Duration::ZERO,
        priority: None,
    };
    RouteTable::new(routes.map(route).collect(), Vec::new(), None)
}

/// A service each, one of them for all that is left; and a virtual host each.
fn routes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for count in [1, 2, 3, 10, 100, 1_000, 10_000] {
        let path = |index: usize| {
            if index == 0 { "/".to_owned() } else { format!("/api/service-{index}") }
        };
        let by_path = table((0..count).map(|index| RouteMatch::new(None, &path(index), None)));
        let wanted = format!("{}/orders/17", path(count / 2));
        group.bench_function(BenchmarkId::new("by path", count), |bencher| {
            bencher.iter(|| {
                by_path.find(black_box("b.example"), black_box(&wanted), &Method::GET, None)
            });
        });
        let host = |index: usize| format!("tenant-{index}.example");
        let by_host = table((0..count).map(|index| RouteMatch::new(Some(&host(index)), "/", None)));
        let (wanted, head) = (host(count / 2), "/orders/17");
        group.bench_function(BenchmarkId::new("by host", count), |bencher| {
            bencher.iter(|| by_host.find(black_box(&wanted), black_box(head), &Method::GET, None));
        });
    }
    let slashes = "/".repeat(60_000);
    let deep =
        table((0..10_000).map(|index| RouteMatch::new(None, &format!("/a/b/{index}"), None)));
    group.bench_function("60,000 slashes", |bencher| {
        bencher.iter(|| deep.find(black_box("b.example"), black_box(&slashes), &Method::GET, None));
    });
    group.finish();
}

criterion_group!(benches, routes);
criterion_main!(benches);
