//! Runs a component without a proxy: `fusebox component test` and `fusebox component bench`.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use fusebox_resilience::ComponentId;
use tokio::time::Instant;

use crate::artifact::Artifact;
use crate::cases::Cases;
use crate::cases::asked::AskedCase;
use crate::cases::compare::CaseReport;
use crate::cases::run::{ask_case, run_all};
use crate::compiler::Compiler;
use crate::config::ComponentConfig;
use crate::instance::Instance;
use crate::memory::ComponentMemory;
use crate::meters::Meters;
use crate::overtaken::Overtaken;
use crate::probe::PATIENCE;
use crate::runtime::Runtime;
use crate::version::Version;

/// Instances that are started to measure how long a start takes.
const STARTS: usize = 50;

/// A component and its cases.
pub struct ComponentTrial {
    version: Arc<Version>,
    artifact: Artifact,
    cases: Cases,
}

impl ComponentTrial {
    /// Loads the component in `file`, configured so, or else as the cases say. Blocks while
    /// `compiler` compiles.
    ///
    /// # Errors
    /// It can't be read, is no acceptable component, is a standard HTTP component, or the cases
    /// configure it with what is impossible.
    pub fn load(
        file: &Path,
        cases: Cases,
        config: Option<ComponentConfig>,
        compiler: Compiler,
    ) -> Result<Self> {
        let place = || file.display().to_string();
        let config = Arc::new(config.map_or_else(|| cases.config(file), Ok)?);
        let artifact = Artifact::read(file).with_context(place)?;
        let runtime = Arc::new(Runtime::new(
            compiler,
            ComponentMemory::default(),
            config.timeout.0,
            config.stack(),
        )?);
        let id =
            ComponentId { name: "tried".into(), digest: artifact.digest().clone(), generation: 1 };
        let (limits, wanted) = (config.compile_limits(), Overtaken::default());
        let compiled = artifact.compile(runtime.compiler(), runtime.engine(), limits, &wanted);
        let component = compiled.with_context(place)?.component;
        let meters = Arc::new(Meters::default());
        let version = Version::link(&component, id, config, runtime, meters, wanted);
        let version = version.with_context(place)?;
        ensure!(
            version.exports().are_any(),
            "{}: cases are not for standard HTTP components",
            place()
        );
        Ok(Self { version: Arc::new(version), artifact, cases })
    }

    /// Asks all cases, in order. Whoever takes longer than the component's `timeout` is asked once
    /// more, and has that long then.
    ///
    /// # Errors
    /// A case holds what can't be asked.
    pub fn test(&self) -> Result<Vec<CaseReport>> {
        run_all(&self.version, self.cases.all(), PATIENCE)
    }

    /// Measures, with `calls` calls for each case on one instance, as long as it may be reused.
    ///
    /// # Errors
    /// A case holds what can't be asked, or the guest fails.
    pub fn bench(&self, calls: u32) -> Result<BenchReport> {
        ensure!(calls > 0, "at least one call");
        let (config, runtime) = (self.version.config(), self.version.runtime());
        let compiling = Instant::now();
        let compile = |compiler: &Compiler| {
            let wanted = self.version.overtaken();
            self.artifact.compile(compiler, runtime.engine(), config.compile_limits(), wanted)
        };
        compile(&runtime.compiler().without_cache())?;
        let compiled = compiling.elapsed();
        let loading = Instant::now();
        compile(runtime.compiler())?;
        let load = runtime.compiler().has_cache().then(|| loading.elapsed());
        let starts = (0..STARTS).map(|_| {
            let starting = Instant::now();
            self.start().map(|_| starting.elapsed())
        });
        let start = Times::of(starts.collect::<Result<_>>()?);
        let mut report = BenchReport {
            size: self.artifact.bytes().len(),
            compile: compiled,
            load,
            start: start.median,
            memory: self.start()?.memory(),
            memory_after: 0,
            instances: 1,
            calls: Vec::new(),
        };
        let mut instance = self.start()?;
        for case in self
            .cases
            .all()
            .iter()
            .filter(|case| case.settings.is_none() && case.expect.fault.is_none())
        {
            let asked = AskedCase::of(case).with_context(|| format!("`{}`", case.name))?;
            let mut times = Vec::new();
            for _ in 0..calls {
                let calling = Instant::now();
                let answer = ask_case(&asked, &mut instance, config.timeout.0.max(PATIENCE));
                times.push(calling.elapsed());
                answer.map_err(|failure| {
                    anyhow!("`{}`: {}: {}", case.name, failure.fault.name(), failure.detail)
                })?;
                instance.printed();
                if !instance.is_reusable() {
                    instance = self.start()?;
                    report.instances += 1;
                }
            }
            let Times { median, p99 } = Times::of(times);
            report.calls.push(CallTimes { name: case.name.clone(), median, p99 });
        }
        ensure!(!report.calls.is_empty(), "no case that an instance can be asked again and again");
        report.memory_after = instance.memory();
        Ok(report)
    }

    fn start(&self) -> Result<Instance> {
        let started = Instance::start(&self.version, self.version.config().timeout.0.max(PATIENCE));
        started.map_err(|failure| anyhow!("can't be instantiated: {}", failure.detail))
    }
}

impl fmt::Debug for ComponentTrial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComponentTrial")
            .field("component", self.version.id())
            .field("cases", &self.cases)
            .finish_non_exhaustive()
    }
}

/// The costs of a component.
#[derive(Clone, Debug)]
pub struct BenchReport {
    /// Bytes of the file.
    pub size: usize,
    /// Compiling it in a child process.
    pub compile: Duration,
    /// Loading compiled code from the code cache; `None`: there is no cache.
    pub load: Option<Duration>,
    /// Starting an instance: the median.
    pub start: Duration,
    /// Bytes of linear memory of a fresh instance.
    pub memory: usize,
    /// The same of the last instance, after its calls.
    pub memory_after: usize,
    /// Instances that were used: more than one if they were recycled.
    pub instances: u64,
    /// The calls, by case.
    pub calls: Vec<CallTimes>,
}

/// How long the calls of a case took. Reading the clock accounts for some 30 ns.
#[derive(Clone, Debug)]
pub struct CallTimes {
    /// The case.
    pub name: String,
    /// The median.
    pub median: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
}

struct Times {
    median: Duration,
    p99: Duration,
}

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: usize| {
            times.get(times.len() * share / 100).or(times.last()).copied().unwrap_or_default()
        };
        Self { median: at(50), p99: at(99) }
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |bytes: usize| format!("{} KiB", bytes.div_ceil(1024));
        writeln!(f, "size           {}", kib(self.size))?;
        writeln!(f, "compile        {:.1?}", self.compile)?;
        if let Some(load) = self.load {
            writeln!(f, "load compiled  {load:.1?}")?;
        }
        writeln!(f, "instantiate    {:.1?}", self.start)?;
        let (before, after) = (kib(self.memory), kib(self.memory_after));
        writeln!(
            f,
            "memory         {before} of an instance, {after} after the calls; instances used: {}",
            self.instances
        )?;
        write!(f, "call           median      p99")?;
        for CallTimes { name, median, p99 } in &self.calls {
            write!(
                f,
                "\n               {:<11} {:<11} {name}",
                format!("{median:.1?}"),
                format!("{p99:.1?}")
            )?;
        }
        Ok(())
    }
}
