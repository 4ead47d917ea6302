//! haproxy, with connections to the service that all clients share.

use std::process::Command;

use anyhow::Result;

use super::setup::Setup;
use crate::process;

pub(super) fn command(setup: &Setup) -> Result<Command> {
    let Setup { listen, upstream, workers, connections, .. } = setup;
    let config = format!(
        "\
global
    nbthread {workers}
    maxconn {connections}
defaults
    mode http
    timeout connect 5s
    timeout client 75s
    timeout server 60s
    http-reuse always
frontend clients
    bind {listen}
    use_backend retried if {{ path_beg /retry/ }}
    default_backend service
backend service
    server only {upstream}
backend retried
    retries 2
    retry-on conn-failure empty-response 503
    server only {upstream}
"
    );
    let mut command = process::command("haproxy");
    command.arg("-db").arg("-f").arg(setup.write("haproxy.cfg", config)?);
    Ok(command)
}
