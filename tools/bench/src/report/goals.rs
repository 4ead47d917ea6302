//! The goals, and whether they are met.

use super::figures::{COST, Figure, FigureOf, MeasuredFigures, P99, RESIDENT, THROUGHPUT};
use super::table::row;
use crate::contestant::REFERENCE;
use crate::statistics::Spread;

const FULL_POLICY: &str =
    "full policy: timeout, retry, breaker, fallback, a component asked about every response";
const WASM: &str = "fusebox-wasm";
const NATIVE: &str = "fusebox-native";

struct Goal {
    what: &'static str,
    goal: &'static str,
    figure: Option<Spread>,
    show: fn(f64) -> String,
    met: fn(f64) -> bool,
}

/// A table of the goals that were measured.
pub(crate) fn table(figures: &MeasuredFigures<'_>) -> String {
    let mut text = String::new();
    for Goal { what, goal, figure, show, met } in goals(figures) {
        let Some(Spread { median, min, max }) = figure else { continue };
        if text.is_empty() {
            row(&mut text, [FULL_POLICY, "goal", "measured", "met"]);
            row(&mut text, ["---", "---:", "---:", "---"]);
        }
        let measured = format!("{} ({} to {})", show(median), show(min), show(max));
        row(&mut text, [what, goal, &measured, if met(median) { "yes" } else { "no" }]);
    }
    text
}

fn goals(figures: &MeasuredFigures<'_>) -> [Goal; 17] {
    let ratio = |scenario, of, to, figure: Figure| {
        figures.ratio(FigureOf::new(scenario, of), FigureOf::new(scenario, to), figure)
    };
    let two = |value: f64| format!("{value:.2}");
    let percent = |value: f64| format!("{:+.1} %", (value - 1.0) * 100.0);
    [
        Goal {
            what: "CPU per request, against nginx's `proxy_pass`",
            goal: "≤ 0.95",
            figure: ratio("get", WASM, REFERENCE, COST),
            show: two,
            met: |value| value <= 0.95,
        },
        Goal {
            what: "… against Envoy with a proxy-wasm filter that does the same",
            goal: "≤ 0.25",
            figure: ratio("get", WASM, "envoy-wasm", COST),
            show: two,
            met: |value| value <= 0.25,
        },
        Goal {
            what: "… with native policies only, against nginx",
            goal: "≤ 0.90",
            figure: ratio("get", NATIVE, REFERENCE, COST),
            show: two,
            met: |value| value <= 0.90,
        },
        Goal {
            what: "… over that with a native predicate",
            goal: "≤ +5 %",
            figure: ratio("get", WASM, NATIVE, COST),
            show: percent,
            met: |value| value <= 1.05,
        },
        Goal {
            what: "a call of the component in the running proxy, mean, µs",
            goal: "≤ 1",
            figure: figures
                .value(FigureOf::new("get", WASM), |measured| measured.component_call_micros),
            show: two,
            met: |value| value <= 1.0,
        },
        Goal {
            what: "… p50, at most",
            goal: "≤ 1",
            figure: figures
                .value(FigureOf::new("get", WASM), |measured| measured.component_call_p50_micros),
            show: two,
            met: |value| value <= 1.0,
        },
        Goal {
            what: "… p99, at most",
            goal: "≤ 5",
            figure: figures
                .value(FigureOf::new("get", WASM), |measured| measured.component_call_p99_micros),
            show: two,
            met: |value| value <= 5.0,
        },
        Goal {
            what: "requests/s at saturation, against nginx",
            goal: "≥ 1.15",
            figure: ratio("get", WASM, REFERENCE, THROUGHPUT),
            show: two,
            met: |value| value >= 1.15,
        },
        Goal {
            what: "… against Envoy with the filter",
            goal: "≥ 2.5",
            figure: ratio("get", WASM, "envoy-wasm", THROUGHPUT),
            show: two,
            met: |value| value >= 2.5,
        },
        Goal {
            what: "p99 at half of nginx's highest rate, open loop, against nginx",
            goal: "≤ 1",
            figure: ratio("fixed-rate", WASM, REFERENCE, P99),
            show: two,
            met: |value| value <= 1.0,
        },
        Goal {
            what: "resident memory, two workers, one component, MiB",
            goal: "≤ 15",
            figure: figures.value(FigureOf::new("get", WASM), RESIDENT),
            show: |value| format!("{value:.1}"),
            met: |value| value <= 15.0,
        },
        Goal {
            what: "CPU per request over TLS, against nginx",
            goal: "≤ 0.95",
            figure: ratio("tls", WASM, REFERENCE, COST),
            show: two,
            met: |value| value <= 0.95,
        },
        Goal {
            what: "… over TLS and HTTP/2, with HTTP/1.1 to the service",
            goal: "≤ 0.95",
            figure: ratio("tls-http2", WASM, REFERENCE, COST),
            show: two,
            met: |value| value <= 0.95,
        },
        Goal {
            what: "handshakes of TLS a second, against nginx",
            goal: "≥ 1.00",
            figure: ratio("handshakes", WASM, REFERENCE, THROUGHPUT),
            show: two,
            met: |value| value >= 1.0,
        },
        Goal {
            what: "CPU per request over HTTP/2 on both sides, against Envoy",
            goal: "≤ 0.35",
            figure: ratio("http2", WASM, "envoy", COST),
            show: two,
            met: |value| value <= 0.35,
        },
        Goal {
            what: "… per unary call of gRPC",
            goal: "≤ 0.35",
            figure: ratio("grpc", WASM, "envoy", COST),
            show: two,
            met: |value| value <= 0.35,
        },
        Goal {
            what: "the access log, over the same without, native policies",
            goal: "≤ +5 %",
            figure: ratio("get", "fusebox-native-log", NATIVE, COST),
            show: percent,
            met: |value| value <= 1.05,
        },
    ]
}
