//! The proxies, in front of three endpoints.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use crate::process::{self, ContestantProcess};

/// A proxy with a way to balance.
#[derive(Clone, Debug)]
pub(super) struct BalancedContestant {
    binary: PathBuf,
    is_envoy: bool,
    is_round_robin: bool,
}

impl BalancedContestant {
    /// Both proxies, each in both ways.
    pub(super) fn all(fusebox: &Path, envoy: &Path) -> [Self; 4] {
        [(false, false), (true, false), (false, true), (true, true)].map(
            |(is_envoy, is_round_robin)| {
                let binary = if is_envoy { envoy } else { fusebox }.into();
                Self { binary, is_envoy, is_round_robin }
            },
        )
    }

    /// Its row in the table.
    pub(super) const fn title(&self) -> &'static str {
        match (self.is_envoy, self.is_round_robin) {
            (false, false) => "fusebox, least-request",
            (true, false) => "Envoy, least request",
            (false, true) => "fusebox, round-robin",
            (true, true) => "Envoy, round robin",
        }
    }

    /// Starts it in front of these.
    pub(super) fn start(
        &self,
        listen: SocketAddr,
        endpoints: [SocketAddr; 3],
        work: &Path,
    ) -> Result<ContestantProcess> {
        let mut command = process::command(&self.binary);
        if self.is_envoy {
            let file = work.join("envoy.json");
            fs::write(&file, self.envoy(listen, endpoints).to_string())?;
            command.arg("--config-path").arg(file);
            let level = ["--log-level", "error"];
            command.args(["--concurrency", "2", "--disable-hot-restart"]).args(level);
        } else {
            let file = work.join("fusebox.toml");
            fs::write(&file, self.fusebox(listen, endpoints))?;
            command.arg("run").arg(file);
        }
        ContestantProcess::start(command, None, &work.join("log"))
    }

    /// Ejection is as it is without being told.
    fn fusebox(&self, listen: SocketAddr, endpoints: [SocketAddr; 3]) -> String {
        let urls = endpoints.map(|address| format!("\"http://{address}\"")).join(", ");
        let balance = if self.is_round_robin { "round-robin" } else { "least-request" };
        format!(
            "listen = \"{listen}\"\nworkers = 2\nlog = {{ access = false }}\n\
             [upstreams.b]\nendpoints = [{urls}]\nbalance = \"{balance}\"\n\
             [[routes]]\nupstream = \"b\"\n"
        )
    }

    /// Outlier detection is on, for as long as fusebox ejects at first.
    fn envoy(&self, listen: SocketAddr, endpoints: [SocketAddr; 3]) -> Value {
        let address = |address: SocketAddr| {
            let (ip, port) = (address.ip().to_string(), address.port());
            json!({ "socket_address": { "address": ip, "port_value": port } })
        };
        let endpoints =
            endpoints.map(|endpoint| json!({ "endpoint": { "address": address(endpoint) } }));
        let filters = "type.googleapis.com/envoy.extensions.filters";
        json!({ "static_resources": {
            "listeners": [{
                "address": address(listen),
                "filter_chains": [{ "filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": {
                        "@type": format!(
                            "{filters}.network.http_connection_manager.v3.HttpConnectionManager"
                        ),
                        "stat_prefix": "clients",
                        "http_filters": [{
                            "name": "envoy.filters.http.router",
                            "typed_config": { "@type": format!("{filters}.http.router.v3.Router") },
                        }],
                        "route_config": { "virtual_hosts": [{
                            "name": "all",
                            "domains": ["*"],
                            "routes": [
                                { "match": { "prefix": "/" }, "route": { "cluster": "b" } },
                            ],
                        }] },
                    },
                }] }],
            }],
            "clusters": [{
                "name": "b",
                "type": "STATIC",
                "lb_policy": if self.is_round_robin { "ROUND_ROBIN" } else { "LEAST_REQUEST" },
                "outlier_detection": {
                    "consecutive_5xx": 5,
                    "base_ejection_time": "5s",
                    "interval": "1s",
                    "max_ejection_percent": 50,
                },
                "load_assignment": {
                    "cluster_name": "b",
                    "endpoints": [{ "lb_endpoints": endpoints }],
                },
            }],
        } })
    }
}
