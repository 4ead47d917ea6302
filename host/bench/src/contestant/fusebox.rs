//! fusebox with as much of it as is to be measured.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::Setup;
use crate::process;

/// What stands between client and service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Policies {
    /// Nothing.
    None,
    /// Fallback, retry, circuit breaker and timeout, without a component.
    Native,
    /// The same; a component is asked about every response, and answers in place of failures.
    Wasm,
    /// The same; the component is asked about 5xx only.
    WasmOnly,
}

pub(super) fn command(
    setup: &Setup,
    binary: &Path,
    component: &Path,
    policies: Policies,
    access_log: bool,
) -> Result<Command> {
    let Setup { listen, upstream, workers, connections, .. } = setup;
    let mut config = format!(
        "\
listen = \"{listen}\"
workers = {workers}
listener = {{ max_connections = {connections} }}
log = {{ access = {access_log} }}
code_cache = {{ directory = \"{cache}\" }}
",
        cache = setup.directory.join("cache").display(),
    );
    let wasm = matches!(policies, Policies::Wasm | Policies::WasmOnly);
    for index in 0..if wasm { setup.components } else { 0 } {
        let handle_if = match policies {
            Policies::WasmOnly => {
                format!("{{ component = \"c{index}\", only = {{ status = [\"5xx\"], failure = [] }} }}")
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
[policies.breaker]
kind = \"circuit-breaker\"
[policies.tolerant-breaker]
kind = \"circuit-breaker\"
failure_threshold = 50
failure_capacity = 100
[policies.timeout]
kind = \"timeout\"
limit = \"10s\"
";
    // Its fallback answers with a failure: another would hide that a retry is missing.
    let retried = match policies {
        Policies::None => String::new(),
        Policies::Native => r#""visible-fallback", "retry", "tolerant-breaker", "timeout""#.into(),
        Policies::Wasm | Policies::WasmOnly => r#""visible-fallback", "retry-0", "tolerant-breaker", "timeout""#.into(),
    };
    let mut route = |path: &str, policies: &str| {
        writeln!(config, "[[routes]]\npath = \"{path}\"\nupstream = \"http://{upstream}\"\npolicies = [{policies}]")
    };
    let usual = |index: u64| match policies {
        Policies::None => String::new(),
        Policies::Native => r#""fallback", "retry", "breaker", "timeout""#.into(),
        Policies::Wasm | Policies::WasmOnly => {
            format!(r#""fallback-{index}", "retry-{index}", "breaker", "timeout""#)
        }
    };
    route("/", &usual(0))?;
    route("/retry", &retried)?;
    for index in 0..setup.routes {
        route(&format!("/routes/{index}"), &usual(index % setup.components))?;
    }
    let mut command = process::command(binary);
    command.arg("run").arg(setup.write("fusebox.toml", config)?);
    Ok(command)
}
