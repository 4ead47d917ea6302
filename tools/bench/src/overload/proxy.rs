//! The proxies that are put under too many requests: fusebox with one thing that protects from it
//! at a time, and Envoy with what it has for that.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::contestant::setup::Setup;
use crate::contestant::{Options, Programs, envoy};
use crate::process::{self, ContestantProcess};
use crate::scenario::Wires;
use crate::upstream::Ports;

/// A proxy in one configuration.
#[derive(Clone, Debug)]
pub(super) struct OverloadedProxy {
    /// Its name in raw data.
    pub(super) name: &'static str,
    binary: PathBuf,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Its route's policies, outermost first, and these themselves.
    Fusebox { names: &'static str, policies: &'static str },
    /// A filter, and the limit of an attempt.
    Envoy { filter: Option<Value>, limit: Option<&'static str> },
}

/// An attempt of those that learn from failures ends when nobody wants its answer any more.
const LIMIT: &str = "0.25s";

/// All that are installed.
pub(super) fn all(programs: &Programs) -> Vec<OverloadedProxy> {
    let fusebox = |name, names, policies| OverloadedProxy {
        name,
        binary: programs.fusebox.clone(),
        kind: Kind::Fusebox { names, policies },
    };
    let mut all = vec![
        fusebox("fusebox", "", ""),
        fusebox(
            "fusebox-retry-unbounded",
            "'retry', 'limit'",
            "retry = { kind = 'retry', budget = 'none' }",
        ),
        fusebox("fusebox-retry", "'retry', 'limit'", "retry = { kind = 'retry' }"),
        fusebox(
            "fusebox-hedge",
            "'hedge'",
            "hedge = { kind = 'hedge', delay_quantile = { quantile = 0.95 } }",
        ),
        fusebox("fusebox-limiter", "'limiter'", "limiter = { kind = 'adaptive-limiter' }"),
        fusebox(
            "fusebox-throttler",
            "'throttler', 'limit'",
            "throttler = { kind = 'adaptive-throttler' }",
        ),
    ];
    if let Some(binary) = &programs.envoy {
        let envoy = |name, filter, limit| OverloadedProxy {
            name,
            binary: binary.clone(),
            kind: Kind::Envoy { filter, limit },
        };
        all.push(envoy("envoy", None, None));
        all.push(envoy("envoy-concurrency", Some(adaptive_concurrency()), None));
        all.push(envoy("envoy-admission", Some(admission_control()), Some(LIMIT)));
    }
    all
}

/// With the settings of the example in Envoy's documentation.
fn adaptive_concurrency() -> Value {
    json!({
        "name": "envoy.filters.http.adaptive_concurrency",
        "typed_config": {
            "@type": envoy::typed("http.adaptive_concurrency.v3.AdaptiveConcurrency"),
            "gradient_controller_config": {
                "sample_aggregate_percentile": { "value": 90 },
                "concurrency_limit_params": { "concurrency_update_interval": "0.1s" },
                "min_rtt_calc_params": {
                    "jitter": { "value": 10 }, "interval": "60s", "request_count": 50,
                },
            },
            "enabled": { "default_value": true, "runtime_key": "adaptive_concurrency.enabled" },
        },
    })
}

/// With its defaults.
fn admission_control() -> Value {
    json!({
        "name": "envoy.filters.http.admission_control",
        "typed_config": {
            "@type": envoy::typed("http.admission_control.v3.AdmissionControl"),
            "enabled": { "default_value": true, "runtime_key": "admission_control.enabled" },
            "success_criteria": { "http_criteria": {
                "http_success_status": [{ "start": 100, "end": 500 }],
            } },
        },
    })
}

/// A proxy that serves, until it is dropped.
#[derive(Debug)]
pub(super) struct RunningProxy {
    pub(super) address: SocketAddr,
    program: ContestantProcess,
}

impl OverloadedProxy {
    /// Starts it in front of a service, and waits until it listens.
    pub(super) async fn start(
        &self,
        service: SocketAddr,
        ports: &mut Ports,
        work: &Path,
    ) -> Result<RunningProxy> {
        let Options { workers, connections, .. } = Options::default();
        let setup = Setup {
            listen: ports.next()?,
            upstream: service,
            admin: ports.next()?,
            directory: tempfile::tempdir_in(work)?.keep(),
            wires: Wires::Plain,
            pair: None,
            workers,
            connections,
            routes: 0,
            components: 0,
            max_header: None,
            has_keys: false,
        };
        let command = match &self.kind {
            Kind::Fusebox { names, policies } => {
                let mut command = process::command(&self.binary);
                let config = fusebox_config(&setup, names, policies);
                command.arg("run").arg(setup.write("fusebox.toml", config)?);
                command
            }
            Kind::Envoy { filter, limit } => {
                let mut route = json!({ "cluster": "service" });
                if let Some(limit) = limit {
                    route["timeout"] = (*limit).into();
                }
                let filters = filter.iter().cloned().collect();
                envoy::command_with(&setup, &self.binary, filters, route)?
            }
        };
        let log = setup.directory.join("log");
        let program = ContestantProcess::start(command, None, &log)?;
        let mut running = RunningProxy { address: setup.listen, program };
        let ready = running.program.listens(running.address).await;
        ready.with_context(|| {
            format!("{}: {}", self.name, fs::read_to_string(&log).unwrap_or_default().trim_end())
        })?;
        Ok(running)
    }
}

fn fusebox_config(setup: &Setup, names: &str, policies: &str) -> String {
    let Setup { listen, upstream, workers, connections, .. } = setup;
    format!(
        "listen = '{listen}'
workers = {workers}
listener = {{ max_connections = {connections} }}
log = {{ access = false, level = 'error' }}
[policies]
limit = {{ kind = 'timeout', limit = '250ms' }}
{policies}
[[routes]]
upstream = 'http://{upstream}'
policies = [{names}]
"
    )
}
