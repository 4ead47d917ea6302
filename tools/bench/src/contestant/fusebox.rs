//! fusebox, with more or fewer policies.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::setup::Setup;
use crate::process;
use crate::scenario::Wires;
use crate::upstream::GRPC_METHOD;

/// The policies of its routes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum PolicySet {
    /// Nothing.
    None,
    /// Fallback, retry, circuit breaker and timeout, without a component.
    Native,
    /// The same; a component is asked about every response, and answers in place of failures.
    Wasm,
    /// The same; the component is asked about 5xx only.
    WasmOnly,
}

impl PolicySet {
    pub(crate) const fn ask_component(self) -> bool {
        matches!(self, Self::Wasm | Self::WasmOnly)
    }
}

/// Calls of all components, from the metrics.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Calls {
    seconds: f64,
    /// Upper bounds in seconds, the last one infinite, with the number of calls within each.
    within: Vec<(f64, f64)>,
}

impl Calls {
    pub(super) fn of(metrics: &str) -> Result<Self> {
        let mut calls = Self { seconds: 0.0, within: Vec::new() };
        for line in
            metrics.lines().filter(|line| line.starts_with("fusebox_component_call_seconds_"))
        {
            let value = || {
                let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
                value.with_context(|| format!("`{line}` in the metrics"))
            };
            if line.starts_with("fusebox_component_call_seconds_sum{") {
                calls.seconds += value()?;
            } else if let Some(bound) =
                line.split("le=\"").nth(1).and_then(|rest| rest.split('"').next())
            {
                let bound = bound
                    .trim_start_matches('+')
                    .parse()
                    .with_context(|| format!("`{line}` in the metrics"))?;
                match calls.within.iter_mut().find(|(known, _)| *known == bound) {
                    Some((_, count)) => *count += value()?,
                    None => calls.within.push((bound, value()?)),
                }
            }
        }
        Ok(calls)
    }

    pub(crate) fn since(mut self, before: &Self) -> Self {
        self.seconds -= before.seconds;
        self.within
            .iter_mut()
            .zip(&before.within)
            .for_each(|((_, now), (_, before))| *now -= before);
        self
    }

    fn count(&self) -> f64 {
        self.within.last().map_or(0.0, |(_, count)| *count)
    }

    pub(crate) fn mean_micros(&self) -> Option<f64> {
        (self.count() > 0.0).then(|| self.seconds * 1e6 / self.count())
    }

    /// The lowest known bound of this quantile.
    pub(crate) fn quantile_micros(&self, quantile: f64) -> Option<f64> {
        let enough = self.count() * quantile;
        let (bound, _) = self.within.iter().find(|(_, count)| *count > 0.0 && *count >= enough)?;
        bound.is_finite().then(|| (bound * 1e9).round() / 1e3)
    }
}

pub(super) fn command(
    setup: &Setup,
    binary: &Path,
    component: &Path,
    policies: PolicySet,
    access_log: bool,
) -> Result<Command> {
    let Setup { listen, upstream, workers, connections, .. } = setup;
    let secured = match &setup.pair {
        Some((cert, key)) => format!(
            ", tls = {{ certificates = [{{ cert = '{}', key = '{}' }}]{} }}",
            cert.display(),
            key.display(),
            if setup.wires == Wires::TlsWithoutTickets { ", session_tickets = false" } else { "" }
        ),
        None => String::new(),
    };
    let protocol = if setup.wires == Wires::Http2 { "http2" } else { "http1" };
    let mut config = format!(
        "\
listen = \"{listen}\"
workers = {workers}
listener = {{ max_connections = {connections}{secured} }}
log = {{ access = {access_log} }}
code_cache = {{ directory = \"{cache}\" }}
",
        cache = setup.directory.join("cache").display(),
    );
    if policies.ask_component() {
        writeln!(config, "admin = {{ listen = \"{}\" }}", setup.admin)?;
    }
    for index in 0..if policies.ask_component() { setup.components } else { 0 } {
        let handle_if = match policies {
            PolicySet::WasmOnly => {
                format!(
                    "{{ component = \"c{index}\", only = {{ status = [\"5xx\"], failure = [] }} }}"
                )
            }
            _ => format!("{{ component = \"c{index}\" }}"),
        };
        write!(
            config,
            "
[components.c{index}]
file = \"{}\"
[policies.fallback-{index}]
kind = \"fallback\"
respond = {{ component = \"c{index}\" }}
[policies.retry-{index}]
kind = \"retry\"
delay = \"1ms\"
budget = \"none\"
handle_if = {handle_if}
",
            component.display()
        )?;
    }
    config += "
[policies.fallback]
kind = \"fallback\"
respond = { status = 200, body = '{\"message\": \"error accessing service B\"}' }
[policies.visible-fallback]
kind = \"fallback\"
respond = { status = 502 }
[policies.retry]
kind = \"retry\"
delay = \"1ms\"
budget = \"none\"
[policies.breaker]
kind = \"circuit-breaker\"
[policies.tolerant-breaker]
kind = \"circuit-breaker\"
failure_threshold = 50
failure_capacity = 100
[policies.timeout]
kind = \"timeout\"
limit = \"10s\"
[policies.breaker-of-each]
kind = \"circuit-breaker\"
key = { header = \"x-tenant\" }
[policies.limiter-of-each]
kind = \"rate-limiter\"
limit = 1000000
per = \"1s\"
key = { header = \"x-tenant\" }
";
    // Its fallback answers with a failure: another would hide that a retry is missing.
    let retried = match policies {
        PolicySet::None => String::new(),
        PolicySet::Native => r#""visible-fallback", "retry", "tolerant-breaker", "timeout""#.into(),
        PolicySet::Wasm | PolicySet::WasmOnly => {
            r#""visible-fallback", "retry-0", "tolerant-breaker", "timeout""#.into()
        }
    };
    let mut route = |path: &str, policies: &str| {
        let grpc = path == GRPC_METHOD;
        writeln!(
            config,
            "[[routes]]\npath = \"{path}\"\n\
             upstream = {{ url = \"http://{upstream}\", protocol = \"{protocol}\" }}\n\
             grpc = {grpc}\npolicies = [{policies}]"
        )
    };
    let usual = |index: u64| match policies {
        PolicySet::None => String::new(),
        PolicySet::Native if setup.has_keys => {
            r#""fallback", "retry", "breaker-of-each", "limiter-of-each", "timeout""#.into()
        }
        PolicySet::Native => r#""fallback", "retry", "breaker", "timeout""#.into(),
        PolicySet::Wasm | PolicySet::WasmOnly => {
            format!(r#""fallback-{index}", "retry-{index}", "breaker", "timeout""#)
        }
    };
    route("/", &usual(0))?;
    if setup.wires == Wires::Http2 {
        route(GRPC_METHOD, &usual(0))?;
    }
    route("/retry", &retried)?;
    for index in 0..setup.routes {
        route(&format!("/routes/{index}"), &usual(index % setup.components))?;
    }
    let mut command = process::command(binary);
    command.arg("run").arg(setup.write("fusebox.toml", config)?);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_all_components_add_up() {
        let metrics = "\
# TYPE fusebox_component_call_seconds histogram
fusebox_component_call_seconds_sum{component=\"a\"} 0.5
fusebox_component_call_seconds_count{component=\"a\"} 3
fusebox_component_call_seconds_bucket{le=\"2.5e-7\",component=\"a\"} 0
fusebox_component_call_seconds_bucket{le=\"0.000001\",component=\"a\"} 2
fusebox_component_call_seconds_bucket{le=\"+Inf\",component=\"a\"} 3
fusebox_component_call_seconds_sum{component=\"b\"} 1.5
fusebox_component_call_seconds_count{component=\"b\"} 1
fusebox_component_call_seconds_bucket{le=\"2.5e-7\",component=\"b\"} 1
fusebox_component_call_seconds_bucket{le=\"0.000001\",component=\"b\"} 1
fusebox_component_call_seconds_bucket{le=\"+Inf\",component=\"b\"} 1
fusebox_component_calls_skipped_total{component=\"a\"} 9
";
        let calls = Calls::of(metrics).unwrap();
        assert_eq!(calls.mean_micros(), Some(500_000.0));
        let quantiles = [0.25, 0.5, 0.75, 0.99].map(|quantile| calls.quantile_micros(quantile));
        assert_eq!(quantiles, [Some(0.25), Some(1.0), Some(1.0), None]);
        let none = calls.clone().since(&calls);
        assert_eq!((none.mean_micros(), none.quantile_micros(0.5)), (None, None));
        assert!(Calls::of("fusebox_component_call_seconds_sum{component=\"a\"} many").is_err());
    }
}
