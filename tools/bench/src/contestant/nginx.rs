//! nginx as a reverse proxy with kept-alive connections: the reference.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::Result;

use super::setup::Setup;
use crate::process;
use crate::scenario::Wires;

pub(super) fn command(setup: &Setup) -> Result<Command> {
    let Setup { listen, upstream, workers, .. } = setup;
    let directory = setup.directory.display();
    let head = setup.max_header.map_or_else(String::new, |bytes| {
        format!(
            "large_client_header_buffers 8 {bytes}; \
             proxy_buffer_size {bytes}; proxy_busy_buffers_size {};",
            2 * bytes
        )
    });
    let mut routes = String::new();
    for route in 0..setup.routes {
        writeln!(routes, "location /routes/{route} {{ proxy_pass http://service; }}")?;
    }
    // Both versions of TLS, which newer releases have by default.
    let secured = match &setup.pair {
        Some((cert, key)) => format!(
            " ssl http2; ssl_certificate {}; ssl_certificate_key {}; \
             ssl_protocols TLSv1.2 TLSv1.3{}",
            cert.display(),
            key.display(),
            if setup.wires == Wires::TlsWithoutTickets {
                "; ssl_session_tickets off; ssl_conf_command NumTickets 0"
            } else {
                ""
            }
        ),
        None => String::new(),
    };
    // Requests are buffered in memory, not in files, and a service never counts as failed.
    let config = format!(
        "\
worker_processes {workers}; daemon off; pid {directory}/pid; error_log {directory}/errors;
events {{ worker_connections {connections}; }}
http {{
    access_log off; keepalive_requests 1000000000;
    client_body_buffer_size 128k; proxy_buffers 16 16k; {head}
    http2_max_concurrent_streams 128;
    client_body_temp_path {directory}/1; proxy_temp_path {directory}/2;
    fastcgi_temp_path {directory}/3; uwsgi_temp_path {directory}/4; scgi_temp_path {directory}/5;
    proxy_http_version 1.1; proxy_set_header Connection \"\";
    upstream service {{
        server {upstream} max_fails=0; keepalive 1024; keepalive_requests 1000000000;
    }}
    upstream retried {{
        server {upstream} max_fails=0; server {upstream} max_fails=0;
        keepalive 1024; keepalive_requests 1000000000;
    }}
    server {{
        listen {listen} backlog=4096{secured};
        location / {{ proxy_pass http://service; }}
        location /retry/ {{
            proxy_pass http://retried; proxy_next_upstream error timeout http_503;
        }}
        {routes}
    }}
}}
",
        // Clients and services together, of each worker: one may get more than its share.
        connections = 2 * setup.connections + 64,
    );
    let mut command = process::command("nginx");
    command
        .arg("-c")
        .arg(setup.write("nginx.conf", config)?)
        .arg("-e")
        .arg(setup.directory.join("errors"));
    Ok(command)
}
