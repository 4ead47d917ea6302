//! The load for profile-guided optimisation: `make release` builds the program with
//! instrumentation, puts this load on it, and builds it again with the profile.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::sync::oneshot;

use crate::contestant::{Contestant, Options};
use crate::open_loop::{self, Plan};
use crate::say::say;
use crate::scenario::Wires;
use crate::upstream::{LARGE_BODY, Ports, Servers};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TrainArguments {
    /// The program to train
    #[arg(value_name = "FILE")]
    fusebox: PathBuf,
    /// The component that it asks
    #[arg(long, value_name = "FILE", default_value = "policies/build/service_b.wasm")]
    component: PathBuf,
}

/// How many requests go over a connection with other wires, and over those of newcomers.
const OFTEN: usize = 10_000;
const SELDOM: usize = 8;
const NEWCOMERS: usize = 200;

/// How many requests are retried.
const RETRIES: usize = 300;

/// A load of one kind of request.
struct Lesson {
    request: String,
    rate: f64,
    connections: usize,
    duration: Duration,
}

/// Mostly small requests, as between most services.
fn lessons() -> [Lesson; 4] {
    let get =
        |target: &str, more: &str| format!("GET {target} HTTP/1.1\r\nHost: bench\r\n{more}\r\n");
    let usual = "User-Agent: train/1\r\nAccept: application/json\r\n\
                 Accept-Encoding: gzip\r\nAuthorization: Bearer x\r\n";
    let large = format!(
        "POST /bodies HTTP/1.1\r\nHost: bench\r\nContent-Length: {LARGE_BODY}\r\n\r\n{}",
        "x".repeat(LARGE_BODY)
    );
    let second = Duration::from_secs(1);
    [
        Lesson { request: get("/", ""), rate: 10_000.0, connections: 64, duration: 2 * second },
        Lesson { request: get("/", usual), rate: 10_000.0, connections: 64, duration: second },
        Lesson { request: get("/", usual), rate: 1_000.0, connections: 1, duration: second },
        Lesson { request: large, rate: 500.0, connections: 16, duration: second },
    ]
}

pub(crate) async fn train(arguments: TrainArguments) -> Result<()> {
    let absolute =
        |path: &Path| std::path::absolute(path).with_context(|| path.display().to_string());
    let (fusebox, component) = (absolute(&arguments.fusebox)?, absolute(&arguments.component)?);
    for file in [&fusebox, &component] {
        ensure!(file.is_file(), "{} is not there", file.display());
    }
    let work = tempfile::tempdir()?;
    let (servers, mut ports) = (Servers::start()?, Ports::new());
    let fuseboxes = Contestant::fuseboxes("fusebox", &fusebox, &component);
    for wires in [Wires::Tls, Wires::Http2] {
        let contestant = fuseboxes[0].over(wires);
        let running =
            contestant.start(&servers, &mut ports, &Options::default(), work.path()).await?;
        // Most go on over the connection that they have.
        for times in [OFTEN, OFTEN].into_iter().chain(std::iter::repeat_n(SELDOM, NEWCOMERS)) {
            running.ask_often(times).await?;
        }
        say!("{}, {wires:?}: all requests answered", contestant.name);
    }
    for contestant in fuseboxes {
        let running =
            contestant.start(&servers, &mut ports, &Options::default(), work.path()).await?;
        let mut answered = 0;
        for Lesson { request, rate, connections, duration } in lessons() {
            let plan = Plan { address: running.address, request, connections, rate, duration };
            let (started, _) = oneshot::channel();
            let load = open_loop::run(plan, started).await?;
            ensure!(load.errors == 0, "{}: {} errors", contestant.name, load.errors);
            answered += load.requests;
        }
        // Failures belong to the profile too: first retries that succeed, then failures that open
        // the breaker.
        let targets = (0..RETRIES).map(|index| format!("/retry/fail-once/train-{index}"));
        for target in targets.chain(std::iter::repeat_n("/unavailable".to_owned(), RETRIES)) {
            let answer = running.get(&target).await?;
            ensure!(answer.starts_with("HTTP/1.1 "), "{}: {answer}", contestant.name);
            answered += 1;
        }
        say!("{}: {answered} requests answered", contestant.name);
    }
    Ok(())
}
