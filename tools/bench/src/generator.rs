//! Load generators: wrk and h2load as programs, the open loop within this one.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use tokio::sync::oneshot;

use crate::load::LoadResult;
use crate::open_loop;
use crate::process;
use crate::scenario::{Generator, Protocol, Scenario, ScenarioRequest, Wires};
use crate::upstream::{GRPC_METHOD, LARGE_BODY, grpc_message};

/// Loads `address` for `duration`. `rate` is for the open loop only. `started` is signalled when
/// the load begins, after the open loop has connected.
pub(crate) async fn run(
    scenario: &Scenario,
    address: SocketAddr,
    duration: Duration,
    rate: Option<f64>,
    work: &Path,
    started: oneshot::Sender<()>,
) -> Result<LoadResult> {
    match scenario.generator {
        Generator::Wrk => {
            started.send(()).ok();
            let script = work.join("load.lua");
            std::fs::write(&script, wrk_script(scenario.request))?;
            wrk_load(&output(wrk(scenario, address, duration, &script)?, duration).await?)
        }
        Generator::H2load => {
            started.send(()).ok();
            h2load_load(&output(h2load(scenario, address, duration, work)?, duration).await?)
        }
        Generator::OpenLoop => {
            let ScenarioRequest::Get(target) = scenario.request else {
                bail!("the open loop sends one request only")
            };
            ensure!(
                scenario.protocol == Protocol::Http1 && scenario.wires == Wires::Plain,
                "the open loop speaks plain HTTP/1.1 only"
            );
            let plan = open_loop::Plan {
                address,
                request: format!("GET {target} HTTP/1.1\r\nHost: bench\r\n\r\n"),
                connections: scenario.connections,
                rate: rate.context("an open loop needs a rate")?,
                duration,
            };
            open_loop::run(plan, started).await
        }
    }
}

/// The output of a command that succeeds in time.
async fn output(command: Command, duration: Duration) -> Result<String> {
    let mut command = tokio::process::Command::from(command);
    let program = format!("{:?}", command.as_std());
    let output = tokio::time::timeout(
        duration + Duration::from_secs(30),
        command.kill_on_drop(true).output(),
    );
    let output = output.await.with_context(|| format!("{program} does not end"))??;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn url(scenario: &Scenario, address: SocketAddr) -> String {
    let scheme = if scenario.wires.are_secured() { "https" } else { "http" };
    match scenario.request {
        ScenarioRequest::Get(target) => format!("{scheme}://{address}{target}"),
        ScenarioRequest::Bodies => format!("{scheme}://{address}/bodies"),
        ScenarioRequest::Headers { count, size } => {
            format!("{scheme}://{address}/headers/{count}/{size}")
        }
        ScenarioRequest::Grpc => format!("{scheme}://{address}{GRPC_METHOD}"),
        ScenarioRequest::Closing
        | ScenarioRequest::RetryTenth
        | ScenarioRequest::Spread { .. }
        | ScenarioRequest::Clients { .. } => format!("{scheme}://{address}/"),
    }
}

fn wrk(
    scenario: &Scenario,
    address: SocketAddr,
    duration: Duration,
    script: &Path,
) -> Result<Command> {
    ensure!(scenario.protocol == Protocol::Http1, "wrk speaks HTTP/1.1 only");
    let mut command = process::command("wrk");
    // It takes whole seconds.
    let seconds = duration.as_secs_f64().round().max(1.0);
    command.args([
        "-t",
        "1",
        "-c",
        &scenario.connections.to_string(),
        "-d",
        &format!("{seconds}s"),
        "--timeout",
        "10s",
    ]);
    command.arg("-s").arg(script).arg(url(scenario, address));
    Ok(command)
}

/// A script for wrk that prints the result as JSON. A `request` function costs wrk time per
/// request, so it is defined only where it is needed.
fn wrk_script(request: ScenarioRequest) -> String {
    let request = match request {
        ScenarioRequest::Get(_) | ScenarioRequest::Grpc => String::new(),
        ScenarioRequest::Closing => "wrk.headers['Connection'] = 'close'\n".into(),
        ScenarioRequest::Bodies => {
            format!("wrk.method = 'POST'\nwrk.body = string.rep('x', {LARGE_BODY})\n")
        }
        ScenarioRequest::RetryTenth => "\
local sent, run = 0, os.time()
local usual = 'GET /retry/ok HTTP/1.1\\r\\nHost: bench\\r\\n\\r\\n'
request = function()
    sent = sent + 1
    if sent % 10 ~= 0 then return usual end
    return 'GET /retry/fail-once/' .. run .. '-' .. sent .. ' HTTP/1.1\\r\\nHost: bench\\r\\n\\r\\n'
end
"
        .into(),
        ScenarioRequest::Spread { routes } => format!(
            "\
local sent = 0
request = function()
    sent = sent + 1
    return 'GET /routes/' .. sent % {routes} .. ' HTTP/1.1\\r\\nHost: bench\\r\\n\\r\\n'
end
"
        ),
        ScenarioRequest::Clients { count } => format!(
            "\
local sent = 0
request = function()
    sent = sent + 1
    return 'GET / HTTP/1.1\\r\\nHost: bench\\r\\nX-Tenant: ' .. sent % {count} .. '\\r\\n\\r\\n'
end
"
        ),
        // `Host` is one of them.
        ScenarioRequest::Headers { count, size } => {
            format!(
                "for n = 2, {count} do\n\
                 wrk.headers['X-Question-' .. n] = string.rep('q', {size})\n\
                 end\n"
            )
        }
    };
    request
        + "\
done = function(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '{\"requests\": %d, \"micros\": %d, \"errors\": %d, ' ..
        '\"p50_micros\": %d, \"p99_micros\": %d}\\n',
        summary.requests, summary.duration,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout,
        latency:percentile(50), latency:percentile(99)))
end
"
}

/// Reads the line that our script prints.
fn wrk_load(output: &str) -> Result<LoadResult> {
    #[derive(Deserialize)]
    struct Done {
        requests: u64,
        micros: u64,
        errors: u64,
        p50_micros: u64,
        p99_micros: u64,
    }
    let line = output
        .lines()
        .rfind(|line| line.starts_with('{'))
        .with_context(|| format!("wrk printed {output}"))?;
    let done: Done = serde_json::from_str(line)?;
    Ok(LoadResult {
        requests: done.requests,
        errors: done.errors,
        elapsed: Duration::from_micros(done.micros),
        p50: Some(Duration::from_micros(done.p50_micros)),
        p99: Some(Duration::from_micros(done.p99_micros)),
    })
}

fn h2load(
    scenario: &Scenario,
    address: SocketAddr,
    duration: Duration,
    work: &Path,
) -> Result<Command> {
    let mut command = process::command("h2load");
    command.args([
        "-t",
        "1",
        "-c",
        &scenario.connections.to_string(),
        "-m",
        &scenario.streams.to_string(),
        "-D",
        // It takes whole seconds only.
        &duration.as_secs_f64().ceil().to_string(),
    ]);
    match scenario.request {
        ScenarioRequest::Get(_) => {}
        ScenarioRequest::Grpc => {
            let message = work.join("message");
            std::fs::write(&message, grpc_message())?;
            command.args(["-H", "content-type: application/grpc", "-H", "te: trailers", "-d"]);
            command.arg(message);
        }
        _ => bail!("h2load sends the same request only"),
    }
    if scenario.protocol == Protocol::Http1 {
        command.arg("--h1");
    }
    command.arg(url(scenario, address));
    Ok(command)
}

/// Reads h2load's summary, which has no percentiles:
///
/// ```text
/// finished in 4.00s, 21339.50 req/s, 5.25MB/s
/// requests: 85358 total, 85422 started, 85358 done, 85358 succeeded, 0 failed, 0 errored, …
/// status codes: 85358 2xx, 0 3xx, 0 4xx, 0 5xx
/// ```
fn h2load_load(output: &str) -> Result<LoadResult> {
    let number = |line: &str, suffix: &str| -> Option<f64> {
        let line = output.lines().find_map(|found| found.strip_prefix(line))?;
        let field = line.split(", ").find_map(|field| field.trim().strip_suffix(suffix))?;
        field.trim().parse().ok()
    };
    let count = |line: &str, suffix: &str| number(line, suffix).map(|number| number as u64);
    let load = || {
        let requests = count("requests: ", " done")?;
        let good = count("status codes: ", " 2xx")?;
        let rate = number("finished in", " req/s")?;
        let broken = count("requests: ", " errored")? + count("requests: ", " timeout")?;
        let elapsed = if rate > 0.0 {
            Duration::from_secs_f64(requests as f64 / rate)
        } else {
            Duration::ZERO
        };
        Some(LoadResult {
            requests,
            errors: requests - good + broken,
            elapsed,
            p50: None,
            p99: None,
        })
    };
    load().with_context(|| format!("h2load printed {output}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    #[test]
    fn a_scenario_says_how_it_is_generated() {
        let arguments = |command: Command| -> Vec<String> {
            command.get_args().map(|argument| argument.to_str().unwrap().to_owned()).collect()
        };
        let plain = Scenario::on_axis("", ScenarioRequest::Get("/"), 3, Generator::Wrk);
        let four = Duration::from_secs(4);
        assert!(
            arguments(wrk(&plain, ADDRESS, four, Path::new("x")).unwrap())
                .ends_with(&["http://127.0.0.1:1/".into()])
        );
        let work = Path::new("x");
        assert!(arguments(h2load(&plain, ADDRESS, four, work).unwrap()).contains(&"--h1".into()));

        let secure = Scenario { protocol: Protocol::Http2, streams: 8, wires: Wires::Tls, ..plain };
        assert!(wrk(&secure, ADDRESS, four, work).is_err());
        let secure = arguments(h2load(&secure, ADDRESS, four, work).unwrap());
        assert!(!secure.contains(&"--h1".into()));
        assert!(secure.windows(2).any(|pair| pair == ["-m", "8"]));
        assert!(secure.ends_with(&["https://127.0.0.1:1/".into()]));
    }

    #[test]
    fn what_h2load_prints_is_understood() {
        let load = h2load_load(
            "finished in 2.00s, 500.00 req/s, 5.25MB/s\n\
             requests: 1000 total, 1064 started, 1000 done, 990 succeeded, 10 failed, \
             3 errored, 2 timeout\n\
             status codes: 995 2xx, 0 3xx, 0 4xx, 5 5xx\n",
        )
        .unwrap();
        assert_eq!((load.requests, load.errors, load.elapsed), (1000, 10, Duration::from_secs(2)));
        assert!(h2load_load("connection refused").is_err());
    }
}
