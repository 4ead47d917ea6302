//! What calls through policies cost, beside what others say of theirs.

use super::table::{duration, none, row, thousands};
use crate::record::Micro;

/// A call through no policy: what the others are more than.
const NOTHING: &str = "pipeline/no-op policies/0";

/// What tower-resilience says that its layers cost.
const TOWER_RESILIENCE: [(&str, &str); 6] = [
    ("pipeline/only/retry", "80–100 ns"),
    ("pipeline/only/timeout", "107 ns"),
    ("pipeline/only/rate-limiter", "124 ns"),
    ("pipeline/only/bulkhead", "162 ns"),
    ("pipeline/only/cache, a hit", "250 ns"),
    ("pipeline/only/circuit-breaker", "298 ns"),
];

/// A row for each, with what it takes more than a call through none.
pub(super) fn table(micros: &[&Micro]) -> String {
    let mut table = String::new();
    let Some(nothing) = micros.iter().find(|micro| micro.name == NOTHING) else { return table };
    let head = [
        "a call through",
        "fastest",
        "median",
        "instructions",
        "the policy's, fastest",
        "the policy's, instructions",
        "tower-resilience says of its own",
    ];
    row(&mut table, head);
    row(&mut table, head.iter().enumerate().map(|(at, _)| if at == 0 { "---" } else { "---:" }));
    for micro in micros {
        let more = |of: fn(&Micro) -> Option<f64>| Some(of(micro)? - of(nothing)?);
        let others = TOWER_RESILIENCE.iter().find(|(of, _)| *of == micro.name);
        let name = micro.name.trim_start_matches("pipeline/").trim_start_matches("only/");
        row(
            &mut table,
            [
                name.to_owned(),
                micro.fastest.map_or_else(none, duration),
                duration(micro.nanos),
                micro.instructions.map_or_else(none, thousands),
                more(|of| of.fastest).map_or_else(none, |more| duration(more.max(0.0))),
                more(|of| of.instructions).map_or_else(none, thousands),
                others.map_or_else(none, |(_, says)| (*says).to_owned()),
            ],
        );
    }
    table
}
