//! What asking a component costs beside asking a native list: a reused instance, called as a policy calls it; and what a
//! standard HTTP component costs, which has a fresh one for each request.
//!
//! Needs the guests of `make policies`. `cargo bench -p fusebox-wasm`.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;

use bytesize::ByteSize;
use criterion::{Criterion, criterion_group, criterion_main};
use fusebox_resilience::testing::{call, call_with, exchange, read};
use fusebox_resilience::{Native, Observers, Outcome, RequestBody, Response, ResponseBody, Slot};
use fusebox_wasm::{Compiler, ComponentConfig, Components, Isolation};
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// As long as an answer of a GraphQL server with an error at its end.
fn graphql_answer() -> String {
    let data = r#"{"id": "0f8fad5b-d9cb-469f-a165-70867728950e", "name": "hello", "tags": ["a", "b"]}"#;
    format!(r#"{{"data": {{"items": [{}]}}, "errors": [{{"message": "no"}}]}}"#, [data; 5].join(", "))
}

fn outcome(status: StatusCode, body: impl Into<bytes::Bytes>) -> Outcome {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(Response::new(status, HeaderMap::from_iter([kind]), ResponseBody::full(body)))
}

fn components() -> Components {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/build");
    let graphql = ComponentConfig { peek_body: Some(ByteSize::kib(16)), ..ComponentConfig::new("graphql_errors.wasm") };
    let configs = BTreeMap::from([
        ("service-b".to_owned(), ComponentConfig::new("service_b.wasm")),
        ("graphql-errors".to_owned(), graphql),
        ("status-page".to_owned(), ComponentConfig::new("status_page.wasm")),
    ]);
    Components::load(configs, &build, Compiler::in_process(), Observers::default()).unwrap_or_else(|failures| {
        let reasons: Vec<_> = failures.iter().map(|(_, error)| format!("{error:#}")).collect();
        panic!("{}; run `make policies`", reasons.join("\n"))
    })
}

fn asking(criterion: &mut Criterion) {
    let components = components();
    let service_b = components.predicate("service-b").expect("it exports one");
    let answers = components.responder("service-b").expect("it exports one");
    let graphql = components.predicate("graphql-errors").expect("it exports one");
    let call = call("1", Observers::default());
    let (busy, good) = (outcome(StatusCode::SERVICE_UNAVAILABLE, ""), outcome(StatusCode::OK, ""));
    let errors = outcome(StatusCode::OK, graphql_answer());
    let busy = exchange(&call, &busy, Slot::HandleIf, None);
    let good = exchange(&call, &good, Slot::HandleIf, None);
    let errors = exchange(&call, &errors, Slot::HandleIf, None);

    let mut group = criterion.benchmark_group("asking");
    group.bench_function("native, 503", |bencher| bencher.iter(|| Native::FAILURES.takes(black_box(busy.outcome))));
    group.bench_function("service-b, 503", |bencher| bencher.iter(|| service_b.judge(black_box(&busy))));
    group.bench_function("service-b, 200", |bencher| bencher.iter(|| service_b.judge(black_box(&good))));
    group.bench_function("service-b, respond", |bencher| bencher.iter(|| answers.respond(black_box(&busy))));
    group.bench_function("graphql-errors, 500 bytes", |bencher| {
        bencher.iter(|| graphql.judge(black_box(&errors)));
    });
    group.finish();
}

/// What isolation costs each call, and a swap or a fault the next one.
fn isolated(criterion: &mut Criterion) {
    let call = call("1", Observers::default());
    let busy = outcome(StatusCode::SERVICE_UNAVAILABLE, "");
    let busy = exchange(&call, &busy, Slot::HandleIf, None);
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/build");
    for isolation in [Isolation::Reuse, Isolation::PerCall] {
        let config = ComponentConfig { isolation, ..ComponentConfig::new("service_b.wasm") };
        let configs = BTreeMap::from([("service-b".to_owned(), config)]);
        let loaded = Components::load(configs, &build, Compiler::in_process(), Observers::default());
        let Ok(components) = loaded else { panic!("run `make policies`") };
        let service_b = components.predicate("service-b").expect("it exports one");
        criterion.bench_function(&format!("isolation/{isolation:?}"), |bencher| {
            bencher.iter(|| service_b.judge(black_box(&busy)));
        });
    }
}

/// What a standard HTTP component costs: a fresh instance for each request, to the end of its body.
fn handled(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let components = components();
    let page = components.responder("status-page").expect("it handles requests");
    let request = http::Request::get("/").header(header::HOST, "b.example");
    let call = call_with("1", request, RequestBody::empty(), Observers::default());
    let busy = outcome(StatusCode::SERVICE_UNAVAILABLE, "");
    let busy = exchange(&call, &busy, Slot::Respond, None);
    criterion.bench_function("handling/status-page", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let response = page.respond(black_box(&busy)).ready().await.expect("it answers");
                read(response.body).await.expect("it is whole")
            })
        });
    });
}

criterion_group!(benches, asking, isolated, handled);
criterion_main!(benches);
