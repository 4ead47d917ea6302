//! One measurement: a load, and what it cost the contestant.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::sync::oneshot;

use crate::contestant::RunningContestant;
use crate::generator;
use crate::record::Measurement;
use crate::scenario::Scenario;

/// Loads `running` as `scenario` says, for `duration`.
pub(crate) async fn measure(
    scenario: &Scenario,
    running: &RunningContestant,
    duration: Duration,
    rate: Option<f64>,
    work: &Path,
) -> Result<Measurement> {
    let name = &running.contestant.name;
    let connections = running.upstream.accepted();
    let calls = running.component_calls().await?;
    let (started, starts) = oneshot::channel();
    let load = async {
        let load = generator::run(scenario, running.address, duration, rate, work, started).await;
        load.with_context(|| format!("{name} in {}", scenario.name))
    };
    let before = async {
        starts.await.ok();
        running.program.usage()
    };
    let (before, load) = tokio::try_join!(before, load)?;
    let used = running.program.usage()?.since(&before);
    let calls =
        running.component_calls().await?.zip(calls).map(|(after, before)| after.since(&before));
    let memory = running.program.memory()?;
    running.empty_output()?;
    ensure!(load.requests > 0, "{name} answers nothing in {}", scenario.name);
    let micros = |latency: Option<Duration>| latency.map(|latency| latency.as_nanos() as f64 / 1e3);
    Ok(Measurement {
        scenario: scenario.name.into(),
        point: None,
        contestant: name.clone(),
        round: 0,
        generator: scenario.generator,
        protocol: scenario.protocol,
        tls: scenario.wires.are_secured(),
        connections: scenario.connections,
        rate,
        seconds: load.elapsed.as_secs_f64(),
        requests: load.requests,
        errors: load.errors,
        processor_seconds: used.as_secs_f64(),
        p50_micros: micros(load.p50),
        p99_micros: micros(load.p99),
        resident_bytes: memory.resident,
        proportional_bytes: memory.proportional,
        upstream_connections: running.upstream.accepted() - connections,
        component_call_micros: calls.as_ref().and_then(|calls| calls.mean_micros()),
        component_call_p50_micros: calls.as_ref().and_then(|calls| calls.quantile_micros(0.5)),
        component_call_p99_micros: calls.as_ref().and_then(|calls| calls.quantile_micros(0.99)),
    })
}
