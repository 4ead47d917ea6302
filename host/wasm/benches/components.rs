//! What components cost: a call by what the guest looks at, on a reused instance and on a fresh
//! one; a standard HTTP component; and the steps that lead to a call: compile, load what was
//! compiled, instantiate, swap.
//!
//! Needs the guests of `make policies`. `cargo bench -p fusebox-wasm`.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use fusebox_resilience::config::ConfigSize;
use fusebox_resilience::testing::{call, call_with, exchange, read};
use fusebox_resilience::{
    Native, Observers, Outcome, Predicate, RequestBody, Response, ResponseBody, Slot,
};
use fusebox_wasm::{
    CodeCache, Compiler, ComponentConfig, ComponentMemory, Components, Isolation, Reload,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tempfile::TempDir;

const JSON: &str = "application/json";

/// As long as an answer of a GraphQL server with an error at its end.
fn graphql_answer() -> String {
    let data =
        r#"{"id": "0f8fad5b-d9cb-469f-a165-70867728950e", "name": "hello", "tags": ["a", "b"]}"#;
    format!(
        r#"{{"data": {{"items": [{}]}}, "errors": [{{"message": "no"}}]}}"#,
        [data; 5].join(", ")
    )
}

fn outcome(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<bytes::Bytes>,
) -> Outcome {
    let content_type = (header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(Response::new(status, HeaderMap::from_iter([content_type]), ResponseBody::full(body)))
}

fn guest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/build").join(name)
}

fn load<const N: usize>(configs: [(&str, ComponentConfig); N], compiler: Compiler) -> Components {
    let configs = BTreeMap::from(configs.map(|(name, config)| (name.to_owned(), config)));
    Components::load(
        configs,
        Path::new(""),
        compiler,
        ComponentMemory::default(),
        Observers::default(),
    )
    .unwrap_or_else(|failures| {
        let reasons: Vec<_> = failures.iter().map(|(_, error)| format!("{error:#}")).collect();
        panic!("{}; run `make policies`", reasons.join("\n"))
    })
}

/// Calls by kind: as a policy makes them, the outcome seen and the answer taken.
fn calling(criterion: &mut Criterion) {
    let call = call("1", Observers::default());
    let busy = outcome(StatusCode::SERVICE_UNAVAILABLE, JSON, "");
    let busy = exchange(&call, &busy, Slot::HandleIf, None);
    let good = outcome(StatusCode::OK, JSON, "");
    let good = exchange(&call, &good, Slot::HandleIf, None);
    let text = outcome(StatusCode::OK, "text/plain", "");
    let text = exchange(&call, &text, Slot::HandleIf, None);
    let errors = outcome(StatusCode::OK, JSON, graphql_answer());
    let errors = exchange(&call, &errors, Slot::HandleIf, None);

    let mut group = criterion.benchmark_group("calling");
    group.bench_function("native list, 503", |bencher| {
        bencher.iter(|| Native::FAILURES.takes(black_box(busy.outcome)));
    });
    for (isolation, instance) in [(Isolation::Reuse, "reused"), (Isolation::PerCall, "fresh")] {
        let service_b =
            ComponentConfig { isolation, ..ComponentConfig::new(guest("service_b.wasm")) };
        let graphql = ComponentConfig {
            isolation,
            peek_body: Some(ConfigSize::kib(16)),
            ..ComponentConfig::new(guest("graphql_errors.wasm"))
        };
        let components =
            load([("service-b", service_b), ("graphql-errors", graphql)], Compiler::in_process());
        let responder = components.responder("service-b").expect("it exports one");
        let service_b = components.predicate("service-b").expect("it exports one");
        let graphql = components.predicate("graphql-errors").expect("it exports one");
        let kinds = [
            ("status, handled", &service_b, &busy),
            ("status, not handled", &service_b, &good),
            ("one header", &graphql, &text),
            ("header and body of 500 bytes", &graphql, &errors),
        ];
        for (kind, predicate, seen) in kinds {
            group.bench_function(format!("{kind}, {instance} instance"), |bencher| {
                bencher.iter(|| predicate.judge(black_box(seen)));
            });
        }
        group.bench_function(format!("fallback response, {instance} instance"), |bencher| {
            bencher.iter(|| responder.respond(black_box(&busy)));
        });
    }
    group.finish();
}

/// What a standard HTTP component costs: a fresh instance for each request, to the end of its body.
fn handling(criterion: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let components =
        load([("page", ComponentConfig::new(guest("status_page.wasm")))], Compiler::in_process());
    let page = components.responder("page").expect("it handles requests");
    let request = http::Request::get("/").header(header::HOST, "b.example");
    let call = call_with("1", request, RequestBody::empty(), Observers::default());
    let busy = outcome(StatusCode::SERVICE_UNAVAILABLE, JSON, "");
    let busy = exchange(&call, &busy, Slot::Respond, None);
    criterion.bench_function("handling/status-page, a request", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let response = page.respond(black_box(&busy)).ready().await.expect("it answers");
                read(response.body).await.expect("it is whole")
            })
        });
    });
}

/// A component in a file, of which there is always another version to come.
struct Changing {
    directory: TempDir,
    bytes: Vec<u8>,
    versions: u64,
}

impl Changing {
    fn new() -> Self {
        let bytes = fs::read(guest("service_b.wasm")).expect("a guest; run `make policies`");
        let changing = Self { directory: TempDir::new().expect("a directory"), bytes, versions: 0 };
        changing.write(0);
        changing
    }

    fn config(&self) -> ComponentConfig {
        ComponentConfig::new(self.directory.path().join("guest.wasm"))
    }

    /// A compiler that keeps code, beside the component.
    fn caching(&self) -> Compiler {
        Compiler::in_process()
            .with_cache(CodeCache::open(&self.directory.path().join("code")).expect("a directory"))
    }

    fn write(&self, version: u64) {
        // A custom section, `v` and a number, which no code depends on.
        let section = [&[0, 10, 1, b'v'], &version.to_le_bytes()[..]].concat();
        fs::write(self.directory.path().join("guest.wasm"), [&self.bytes[..], &section].concat())
            .expect("a file");
    }

    fn write_new(&mut self) {
        self.versions += 1;
        self.write(self.versions);
    }

    /// One of the first two, and not the one that is there.
    fn write_other(&mut self) {
        self.versions = 1 - self.versions;
        self.write(self.versions);
    }
}

/// From a file to components that can be asked: engine, code, a first instance, made-up outcomes.
fn starting(criterion: &mut Criterion) {
    let changing = Changing::new();
    let mut group = criterion.benchmark_group("starting");
    group.sample_size(10);
    group.bench_function("with a component to compile", |bencher| {
        bencher.iter(|| load([("c", changing.config())], Compiler::in_process()));
    });
    group.bench_function("with a component from the code cache", |bencher| {
        bencher.iter(|| load([("c", changing.config())], changing.caching()));
    });
    group.finish();
}

fn swap(components: &Components) {
    let reloaded = components.reload("c");
    assert!(matches!(reloaded, Reload::Replaced(_)), "{reloaded:?}");
}

/// A new version, from the look at its file to the first answer that is its own.
fn swapping(criterion: &mut Criterion) {
    let call = call("1", Observers::default());
    let busy = outcome(StatusCode::SERVICE_UNAVAILABLE, JSON, "");
    let busy = exchange(&call, &busy, Slot::HandleIf, None);
    let serving = |changing: &Changing, compiler| {
        let components = load([("c", changing.config())], compiler);
        let predicate: Arc<dyn Predicate> = components.predicate("c").expect("it exports one");
        (components, predicate)
    };
    let mut group = criterion.benchmark_group("swapping");
    group.sample_size(10);

    let mut changing = Changing::new();
    let (components, predicate) = serving(&changing, Compiler::in_process());
    group.bench_function("a version to compile, until its first answer", |bencher| {
        let to_first_answer = |()| {
            swap(&components);
            predicate.judge(&busy)
        };
        bencher.iter_batched(|| changing.write_new(), to_first_answer, BatchSize::PerIteration);
    });

    let mut changing = Changing::new();
    let (components, predicate) = serving(&changing, changing.caching());
    // Both versions are in the cache after this.
    changing.write_other();
    swap(&components);
    group.bench_function("a version from the code cache, until its first answer", |bencher| {
        let to_first_answer = |()| {
            swap(&components);
            predicate.judge(&busy)
        };
        bencher.iter_batched(|| changing.write_other(), to_first_answer, BatchSize::PerIteration);
    });
    group.bench_function("the instance of the new version in place of the old one's", |bencher| {
        let swapped = || {
            predicate.judge(&busy);
            changing.write_other();
            swap(&components);
        };
        bencher.iter_batched(swapped, |()| components.refresh_instances(), BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, calling, handling, starting, swapping);
criterion_main!(benches);
