//! What holds less than one might think while a stream of gRPC is open.

use std::collections::BTreeSet;

use crate::config::{ConfigError, ConfigFile};
use crate::running::PoliciesByName;

/// Notes the limits that stand still then, where no other holds that a client can't extend.
pub(super) fn limits_of_streams(file: &ConfigFile, policies: &PoliciesByName) -> Vec<ConfigError> {
    let ConfigFile { config, places, .. } = file;
    if config.listener.max_deadline.is_some() {
        return Vec::new();
    }
    let routes = config.routes.values().filter(|route| route.grpc);
    let names: BTreeSet<&String> = routes.flat_map(|route| &route.policies).collect();
    let is_limit =
        |name: &&String| policies.get(name.as_str()).is_some_and(|it| it.outline().limit.is_some());
    let note = |name: &String| {
        let message = "stands still while the client of a call by gRPC keeps its side open, since \
                       a server that hangs then looks like one that waits for more; what holds is \
                       the client's `grpc-timeout`, `max_deadline` of the listener and \
                       `grpc_idle_timeout` of the route";
        places.error(&format!("policies.{name}.limit"), message)
    };
    names.into_iter().filter(is_limit).map(note).collect()
}
