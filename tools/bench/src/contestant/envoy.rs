//! Envoy, alone or with a proxy-wasm filter that does the same as our component.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::setup::Setup;
use crate::process;
use crate::scenario::Wires;

/// The header that the filter adds to a response that it considers a failure.
pub(crate) const HANDLED: &str = "x-handled";

const FILTER: &str = include_str!("predicate.wat");

pub(super) fn command(setup: &Setup, binary: &Path, filter: bool) -> Result<Command> {
    let mut filters = Vec::new();
    if filter {
        let module = wat::parse_str(FILTER).context("predicate.wat")?;
        let module = setup.write("predicate.wasm", module)?;
        filters.push(json!({
            "name": "predicate",
            "typed_config": {
                "@type": typed("http.wasm.v3.Wasm"),
                "config": {
                    "name": "predicate",
                    "vm_config": {
                        "runtime": "envoy.wasm.runtime.v8",
                        "code": { "local": { "filename": module } },
                    },
                },
            },
        }));
    }
    command_with(setup, binary, filters, json!({ "cluster": "service" }))
}

/// With these filters, and this way to the service.
pub(crate) fn command_with(
    setup: &Setup,
    binary: &Path,
    mut filters: Vec<Value>,
    route: Value,
) -> Result<Command> {
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": typed("http.router.v3.Router") },
    }));
    let mut command = process::command(binary);
    command
        .arg("--config-path")
        .arg(setup.write("envoy.json", config(setup, filters, route).to_string())?);
    command.args([
        "--concurrency",
        &setup.workers.to_string(),
        "--disable-hot-restart",
        "--log-level",
        "warning",
    ]);
    Ok(command)
}

/// The name of the type of a filter's configuration.
pub(crate) fn typed(filter: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.filters.{filter}")
}

fn config(setup: &Setup, filters: Vec<Value>, route: Value) -> Value {
    let address = |address: SocketAddr| {
        let (ip, port) = (address.ip().to_string(), address.port());
        json!({ "socket_address": { "address": ip, "port_value": port } })
    };
    let is_http2 = setup.wires == Wires::Http2;
    let spoken = if is_http2 { "http2_protocol_options" } else { "http_protocol_options" };
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let endpoint = json!({ "endpoint": { "address": address(setup.upstream) } });
    // The defaults, of 1024 connections and 3 retries at once, would be what is measured.
    let unlimited = 1_000_000;
    json!({ "static_resources": {
        "listeners": [{
            "address": address(setup.listen),
            "filter_chains": [{ "filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": typed("network.http_connection_manager.v3.HttpConnectionManager"),
                    "stat_prefix": "clients",
                    "codec_type": if is_http2 { "HTTP2" } else { "HTTP1" },
                    "http_filters": filters,
                    "route_config": { "virtual_hosts": [{
                        "name": "all",
                        "domains": ["*"],
                        "routes": [
                            {
                                "match": { "prefix": "/retry/" },
                                "route": { "cluster": "service", "retry_policy": {
                                    "retry_on": "5xx",
                                    "num_retries": 2,
                                    // The shortest there is.
                                    "retry_back_off": {
                                        "base_interval": "0.001s", "max_interval": "0.001s",
                                    },
                                } },
                            },
                            { "match": { "prefix": "/" }, "route": route },
                        ],
                    }] },
                },
            }] }],
        }],
        "clusters": [{
            "name": "service",
            "type": "STATIC",
            "typed_extension_protocol_options": { options: {
                "@type": format!("type.googleapis.com/{options}"),
                "explicit_http_config": { spoken: {} },
            } },
            "circuit_breakers": { "thresholds": [{
                "max_connections": unlimited,
                "max_pending_requests": unlimited,
                "max_requests": unlimited,
                "max_retries": unlimited,
            }] },
            "load_assignment": {
                "cluster_name": "service",
                "endpoints": [{ "lb_endpoints": [endpoint] }],
            },
        }],
    } })
}
