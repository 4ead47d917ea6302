//! The story of the swap: a component's file is replaced again and again while a load runs.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

use super::builds::{self, Build};
use super::load::{LoadTally, TourLoad};
use super::log::message;
use super::stage::{Question, Stage};
use super::story::{Expected, Is, Story, between};

const CONNECTIONS: usize = 8;
/// How often the component is replaced in each half.
const SWAPS: usize = 6;
/// How many requests each component answers, at least.
const ANSWERS: usize = 150;
/// The component that the configuration names, relative to it.
const COMPONENT: &str = "../../policies/build/service_b.wasm";
const HELLO: &str = r#"200 {"message": "hello from service B"}"#;

/// A configuration and its component in a directory of their own, which is deleted when dropped.
struct Copy {
    directory: TempDir,
    builds: [Build; 2],
    replaced: usize,
}

impl Copy {
    fn of(config: &Path) -> anyhow::Result<Self> {
        let from = config.with_file_name(COMPONENT);
        let component = std::fs::read(&from)
            .with_context(|| format!("`{}`: run `make policies`", from.display()))?;
        let directory = tempfile::Builder::new()
            .prefix("fusebox-tour-")
            .tempdir()
            .context("a temporary directory")?;
        let copy = Self { directory, builds: builds::two(component), replaced: 0 };
        for file in [copy.config(), copy.component()] {
            std::fs::create_dir_all(file.parent().context("a file is in a directory")?)?;
        }
        std::fs::copy(config, copy.config())?;
        std::fs::write(copy.component(), &copy.builds[0].component)?;
        Ok(copy)
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("examples/configs/composition.toml")
    }

    fn component(&self) -> PathBuf {
        self.directory.path().join("policies/build/service_b.wasm")
    }

    fn current(&self) -> &Build {
        &self.builds[self.replaced % 2]
    }

    /// Replaces the component atomically and waits until fusebox has logged the result.
    async fn put(&self, stage: &Stage, content: &[u8]) -> anyhow::Result<()> {
        let from = stage.fusebox.log.len();
        let new = self.component().with_extension("new");
        std::fs::write(&new, content)?;
        std::fs::rename(&new, self.component())?;
        let is_the_end =
            |line: &Value| ["Component replaced", "Component rejected"].contains(&message(line));
        stage
            .fusebox
            .log
            .first(from, is_the_end)
            .await
            .context("fusebox has not noticed the new file")?;
        Ok(())
    }

    /// Replaces the current build by the other one, repeatedly, under a load that ends with it.
    /// Returns fusebox's lines about the component.
    async fn swap_under_load(&mut self, stage: &Stage) -> anyhow::Result<(Vec<Value>, LoadTally)> {
        let from = stage.fusebox.log.len();
        let load = TourLoad::start(stage.fusebox.address, CONNECTIONS);
        load.more(ANSWERS).await;
        for _ in 0..SWAPS {
            self.replaced += 1;
            self.put(stage, &self.current().component).await?;
            load.more(ANSWERS).await;
        }
        let tally = load.end().await;
        Ok((stage.fusebox.log.all(from, is_about_a_component), tally))
    }
}

fn is_about_a_component(line: &Value) -> bool {
    message(line).starts_with("Component ")
}

pub(super) async fn swap(story: &mut Story) -> anyhow::Result<()> {
    let mut copy = Copy::of(story.config())?;
    let [first, second] = &copy.builds;
    let words = [first.words, second.words];
    story.say(&format!(
        "Two builds of the component, which answer `{}` and `{}`.",
        words[0], words[1]
    ));
    let mut stage = Stage::open(&copy.config(), &["--quiet"]).await?;
    let since = Timestamp::now();

    story.say(&format!(
        "{CONNECTIONS} connections ask without pause; one build replaces the other {SWAPS} times."
    ));
    let (lines, tally) = copy.swap_under_load(&stage).await?;
    let asked = tally.total();
    story.lines("fusebox", &lines, &["Component replaced"; SWAPS], since);
    tally_fact(story, &tally, &[HELLO.to_owned()]);
    let closed = [("state", Is::exactly("closed")), ("openings", Is::exactly(0))];
    story.state(&stage, "/policies/breaker", &closed).await?;
    let asked_each_time =
        [("generation", Is::exactly(1 + SWAPS)), ("calls", Is::Between(asked as f64, f64::MAX))];
    story.state(&stage, "/components/service-b", &asked_each_time).await?;
    story.metrics(&stage, &[(r#"fusebox_requests_total{route="/",status="200"}"#, asked)]).await?;

    story.say(
        "B ends: the breaker opens for a minute, and the component answers. The same again, \
         without B.",
    );
    stage.end_b().await?;
    let answer = |words: &str| format!(r#"{{"message": "{words}"}}"#);
    let expected = Expected {
        status: 200,
        body: &answer(copy.current().words),
        after: between(0, 10),
        log: &[
            "circuit breaker state changed from closed to open",
            "Fallback executed result",
            "200: OK",
        ],
        b: &[],
    };
    story.ask(&stage, Question::to_fusebox("/"), expected).await?;
    let open = [("state", Is::exactly("open")), ("remaining_delay_ms", Is::Between(1.0, 60_000.0))];
    let before = story.state(&stage, "/policies/breaker", &open).await?;
    let (lines, tally) = copy.swap_under_load(&stage).await?;
    story.lines("fusebox", &lines, &["Component replaced"; SWAPS], since);
    tally_fact(story, &tally, &words.map(|words| format!("200 {}", answer(words))));
    // The same opening, further on its way.
    let Some(remaining) = before["remaining_delay_ms"].as_f64() else {
        bail!("an open breaker without a delay")
    };
    let still_open = [
        ("state", Is::exactly("open")),
        ("openings", Is::exactly(1)),
        ("remaining_delay_ms", Is::Between(1.0, remaining - 1.0)),
    ];
    story.state(&stage, "/policies/breaker", &still_open).await?;

    story.say("A file that is no component takes the component's place, and a load runs on.");
    let from = stage.fusebox.log.len();
    let load = TourLoad::start(stage.fusebox.address, CONNECTIONS);
    load.more(ANSWERS).await;
    copy.put(&stage, b"This is no component.\n").await?;
    load.more(ANSWERS).await;
    let tally = load.end().await;
    story.lines(
        "fusebox",
        &stage.fusebox.log.all(from, is_about_a_component),
        &["Component rejected"],
        since,
    );
    tally_fact(story, &tally, &[format!("200 {}", answer(copy.current().words))]);
    let digest = lines.last().map(|line| line["digest"].clone()).unwrap_or_default();
    let kept = [("generation", Is::exactly(1 + 2 * SWAPS)), ("digest", Is::Exactly(digest))];
    story.state(&stage, "/components/service-b", &kept).await?;
    let loads = |result| {
        format!(r#"fusebox_component_loads_total{{component="service-b",result="{result}"}}"#)
    };
    story.metrics(&stage, &[(&loads("loaded"), 1 + 2 * SWAPS), (&loads("rejected"), 1)]).await?;
    story.end(stage, None).await
}

/// Shows how many requests had which answer: all of these must occur, and no others.
fn tally_fact(story: &mut Story, tally: &LoadTally, expected: &[String]) {
    let LoadTally { outcomes, seconds, .. } = tally;
    let failed: usize = outcomes
        .iter()
        .filter(|(outcome, _)| !expected.contains(outcome))
        .map(|(_, count)| count)
        .sum();
    let mut seen = vec![format!("{} requests in {seconds:.2} s, {failed} failed", tally.total())];
    seen.extend(outcomes.iter().map(|(outcome, count)| format!("{count} × {outcome}")));
    let as_expected = failed == 0 && expected.iter().all(|outcome| outcomes.contains_key(outcome));
    story.fact("load", &seen, (!as_expected).then(|| expected.to_vec()));
}
