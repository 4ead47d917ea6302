//! Counting a case: the program is started, warmed up, and counted for some requests, one at a
//! time.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, ensure};

use crate::callgrind::{Callgrind, IdleThread, Thread};
use crate::case::CountedCase;
use crate::code_cache;
use crate::peers::{self, PeerClient};
use crate::profile::Profile;
use crate::record::RequestCost;

/// Requests before counting: by then buffers have grown and one-time work is done.
const WARM_UP: usize = 200;

/// How many functions a profile shows.
const SHOWN: usize = 60;

const WORKER: &str = "worker-0";

/// Mimalloc's functions that allocate. A reallocation counts as an allocation.
const ALLOCATING: [&str; 6] = [
    "mi_malloc",
    "mi_zalloc",
    "mi_realloc",
    "mi_malloc_aligned",
    "mi_zalloc_aligned",
    "mi_realloc_aligned",
];

/// Counts cases.
#[derive(Debug)]
pub(crate) struct Counter {
    program: PathBuf,
    component: PathBuf,
    /// The directory for files that outlast the run.
    directory: PathBuf,
    code_cache: PathBuf,
    requests: u32,
}

impl Counter {
    /// Counts so many requests to a program, whose path is relative to the repository.
    pub(crate) fn new(program: &Path, requests: u32) -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let component = root.join("policies/build/service_b.wasm");
        ensure!(component.exists(), "{} is missing: run `make policies`", component.display());
        let directory = root.join("target/counts");
        let code_cache = directory.join("code");
        fs::create_dir_all(&code_cache)?;
        let program =
            root.join(program).canonicalize().with_context(|| program.display().to_string())?;
        code_cache::fill(&component, &code_cache)?;
        Ok(Self { program, component, directory, code_cache, requests })
    }

    /// Counts what the program executes for a request.
    pub(crate) fn count(&self, case: &CountedCase) -> Result<CaseCounts> {
        let gate = Arc::new(OnceLock::<IdleThread>::new());
        let opened = gate.clone();
        // The upstream answers only when the worker is idle, so that it waits for every response.
        let upstream =
            peers::upstream(case, move || opened.get().map_or(Ok(()), IdleThread::wait))?;
        let directory = tempfile::tempdir()?;
        let config = case.config(upstream, &self.component, &self.code_cache);
        let mut program = Callgrind::start(&self.program, &config, directory.path())?;
        let threads = program.threads()?;
        let worker = threads.iter().find(|thread| thread.name == WORKER).context("no worker")?;
        let idle = gate.get_or_init(|| program.idle(worker));

        let mut client = PeerClient::open(case, program.address())?;
        let mut ask = |times: usize| {
            for _ in 0..times {
                let status = client.ask()?;
                ensure!(
                    status == case.expected,
                    "{}: expected {}, got {status}",
                    case.name,
                    case.expected
                );
                idle.wait()?;
            }
            Ok(())
        };
        ask(WARM_UP)?;
        program.zero()?;
        ask(self.requests as usize)?;
        let threads = program.dump(&threads)?;
        Ok(CaseCounts { case: case.name, threads, requests: self.requests })
    }

    /// Keeps callgrind's file of the worker and returns its path.
    pub(crate) fn keep(&self, counts: &CaseCounts) -> Result<PathBuf> {
        let file = self.directory.join(format!("callgrind.out.{}", counts.case));
        fs::write(&file, counts.worker().text())?;
        Ok(file)
    }
}

/// The counts of a case.
#[derive(Debug)]
pub(crate) struct CaseCounts {
    case: &'static str,
    threads: Vec<(Thread, Profile)>,
    requests: u32,
}

impl CaseCounts {
    fn worker(&self) -> &Profile {
        let worker = self.threads.iter().find(|(thread, _)| thread.name == WORKER);
        worker.map(|(_, profile)| profile).expect("the worker was counted")
    }

    fn per_request(&self, count: u64) -> f64 {
        count as f64 / f64::from(self.requests)
    }

    /// What the worker spends on a request.
    pub(crate) fn figures(&self) -> RequestCost {
        let allocations =
            self.worker().calls_of(&ALLOCATING).into_iter().map(|(_, calls)| calls).sum();
        RequestCost::new(self.per_request(self.worker().total()), self.per_request(allocations))
    }

    /// Instructions of other threads per request: the log's writer and the timers.
    pub(crate) fn elsewhere(&self) -> f64 {
        let others = self.threads.iter().filter(|(thread, _)| thread.name != WORKER);
        self.per_request(others.map(|(_, profile)| profile.total()).sum())
    }

    /// Prints the functions that cost most, and those that allocate.
    pub(crate) fn print_profile(&self) {
        let worker = self.worker();
        println!("{:>9} {:>6} {:>9} {:>7}  function", "own", "", "with its", "calls");
        for (name, function) in worker.functions().into_iter().take(SHOWN) {
            let share = function.own() as f64 / worker.total() as f64 * 100.0;
            let (own, all) =
                (self.per_request(function.own()), self.per_request(function.inclusive()));
            println!(
                "{own:9.1} {share:4.1} % {all:9.1} {:7.2}  {name}",
                self.per_request(function.calls())
            );
        }
        println!("allocations by");
        for (caller, calls) in worker.calls_of(&ALLOCATING) {
            println!("{:9.2}  {caller}", self.per_request(calls));
        }
    }
}
