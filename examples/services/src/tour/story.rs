//! A story: everything that it sees is printed with a mark that tells whether it is as expected.
//!
//! The telling is kept until the story has ended, because all stories run at the same time and are
//! printed in order.

use std::fmt::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::client::WholeAnswer;
use super::load::LoadTally;
use super::log::{message, seconds};
use super::stage::{Question, Stage, TourExchange};

/// How long to look again whether a number is what it should be: an answer may be here before it is
/// counted.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often to look.
const PAUSE: Duration = Duration::from_millis(20);
/// How many letters of a body are shown.
const SHOWN: usize = 120;

/// A story.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) number: &'static str,
    pub(super) text: String,
    /// The number of checks,
    pub(super) checked: usize,
    /// and of those that failed.
    pub(super) wrong: usize,
    config: PathBuf,
    asked: usize,
}

/// What is expected of a question.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    pub(super) status: u16,
    /// What the body contains.
    pub(super) body: &'a str,
    /// When the answer comes. It must not be early; a busy machine is never late enough to fail.
    pub(super) after: Range<Duration>,
    /// Fusebox's messages about it.
    pub(super) log: &'a [&'a str],
    /// B's messages about it.
    pub(super) b: &'a [&'a str],
}

/// What a value in `/state` should be.
#[derive(Debug)]
pub(super) enum Is {
    Exactly(Value),
    Between(f64, f64),
}

impl Is {
    pub(super) fn exactly(value: impl Into<Value>) -> Self {
        Self::Exactly(value.into())
    }

    fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Exactly(expected) => value == expected,
            Self::Between(low, high) => {
                value.as_f64().is_some_and(|value| (*low..=*high).contains(&value))
            }
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Exactly(expected) => shown(expected),
            Self::Between(low, f64::MAX) => format!("{low} or more"),
            Self::Between(low, high) => format!("{low} to {high}"),
        }
    }
}

/// From so many seconds to less than so many.
pub(super) fn between(from: u64, to: u64) -> Range<Duration> {
    Duration::from_secs(from)..Duration::from_secs(to)
}

impl Story {
    /// Tells a story about a configuration to its end, or until an error.
    pub(super) async fn told(
        number: &'static str,
        title: &str,
        config: PathBuf,
        telling: impl AsyncFnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> Self {
        let heading = format!("{number} {title}  ({})", config.display());
        let text = format!("{heading}\n{}\n", "─".repeat(heading.chars().count()));
        let mut story = Self { number, text, checked: 0, wrong: 0, config, asked: 0 };
        if let Err(error) = telling(&mut story).await {
            story.fact(
                "end",
                &[format!("the story can't go on: {error:#}")],
                Some(vec!["that it can".to_owned()]),
            );
        }
        story.text.push('\n');
        story
    }

    pub(super) fn config(&self) -> &Path {
        &self.config
    }

    /// Prints a text that is not checked: what is set up, and what comes next.
    pub(super) fn say(&mut self, text: &str) {
        // A string takes whatever is written to it.
        let _ = writeln!(self.text, "   {text}");
    }

    /// Shows what was seen, and what was expected if that is something else.
    pub(super) fn fact(&mut self, label: &str, seen: &[String], expected: Option<Vec<String>>) {
        self.checked += 1;
        self.wrong += usize::from(expected.is_some());
        let none = ["nothing".to_owned()];
        let seen = if seen.is_empty() { &none } else { seen };
        let Some(expected) = expected else { return self.block(" ✓ ", label, seen) };
        self.block(" ✗ ", label, seen);
        self.block("   ", "expected", if expected.is_empty() { &none } else { &expected });
    }

    fn block(&mut self, mark: &str, label: &str, lines: &[String]) {
        let mut head = format!("{mark}{label:8}  ");
        for line in lines {
            let _ = writeln!(self.text, "{head}{line}");
            head = " ".repeat(13);
        }
    }

    /// Asks, and shows the answer, what fusebox and B have written of it, and whether all of that
    /// is as expected.
    pub(super) async fn ask(
        &mut self,
        stage: &Stage,
        question: Question,
        expected: Expected<'_>,
    ) -> anyhow::Result<WholeAnswer> {
        self.asked += 1;
        let request_id = format!("tour-{}-{}", self.number, self.asked);
        self.say(&format!("→ {question}"));
        let exchange = stage.ask(&question, &request_id, expected.b.len()).await?;
        self.answer(&exchange, &expected);
        self.lines("fusebox", &exchange.log, expected.log, exchange.at);
        self.lines("B", &exchange.arrivals, expected.b, exchange.at);
        Ok(exchange.answer)
    }

    fn answer(&mut self, exchange: &TourExchange, expected: &Expected<'_>) {
        let TourExchange { took, answer, .. } = exchange;
        let seen = format!(
            "{} after {:.2} s: {}",
            answer.status.as_u16(),
            took.as_secs_f64(),
            cut(&answer.body)
        );
        let as_expected = answer.status.as_u16() == expected.status
            && answer.body.contains(expected.body)
            && expected.after.contains(took);
        let expected = || {
            let Range { start, end } = expected.after;
            vec![format!(
                "{} with `{}`, from {start:?} on, before {end:?}",
                expected.status, expected.body
            )]
        };
        self.fact("answer", &[seen], (!as_expected).then(expected));
    }

    /// Shows lines of a log with the seconds since `since`; the messages should be these.
    pub(super) fn lines(
        &mut self,
        label: &str,
        lines: &[Value],
        expected: &[&str],
        since: Timestamp,
    ) {
        let seen: Vec<_> = lines.iter().map(|line| line_shown(line, since)).collect();
        let as_expected = lines.iter().map(message).eq(expected.iter().copied());
        self.fact(
            label,
            &seen,
            (!as_expected).then(|| expected.iter().map(|text| (*text).to_owned()).collect()),
        );
    }

    /// Shows what `/state` says at this place, once it is as expected.
    pub(super) async fn state(
        &mut self,
        stage: &Stage,
        place: &str,
        expected: &[(&str, Is)],
    ) -> anyhow::Result<Value> {
        let since = Instant::now();
        let (found, as_expected) = loop {
            let found = stage.state().await?.pointer(place).cloned().unwrap_or_default();
            let as_expected = expected.iter().all(|(key, is)| is.holds(&found[*key]));
            if as_expected || since.elapsed() > PATIENCE {
                break (found, as_expected);
            }
            sleep(PAUSE).await;
        };
        let listed = |value: &dyn Fn(&str, &Is) -> String| {
            let values: Vec<_> =
                expected.iter().map(|(key, is)| format!("{key} {}", value(key, is))).collect();
            format!("{}: {}", place.rsplit('/').next().unwrap_or(place), values.join(", "))
        };
        let seen = listed(&|key, _| shown(&found[key]));
        self.fact("state", &[seen], (!as_expected).then(|| vec![listed(&|_, is| is.shown())]));
        Ok(found)
    }

    /// Shows what fusebox warned of at its start: as many as expected, each with these words.
    pub(super) async fn warnings(&mut self, stage: &Stage, expected: &[&str]) {
        let seen = stage.warnings(expected.len()).await;
        let is_as_expected = seen.len() == expected.len()
            && seen.iter().zip(expected).all(|(warning, words)| warning.contains(words));
        let wanted = || expected.iter().map(|words| (*words).to_owned()).collect();
        self.fact("warned", &seen, (!is_as_expected).then(wanted));
    }

    /// Shows what came of a load, of which no request may fail.
    pub(super) fn load(&mut self, label: &str, tally: &LoadTally) {
        let failed = tally.failed();
        let seen = format!("{} requests, {failed} failed", tally.total());
        self.fact(label, &[seen], (failed > 0).then(|| vec!["0 failed".to_owned()]));
    }

    /// Shows these series of `/metrics`, once they are as expected.
    pub(super) async fn metrics(
        &mut self,
        stage: &Stage,
        expected: &[(&str, usize)],
    ) -> anyhow::Result<()> {
        let since = Instant::now();
        let expected: Vec<_> =
            expected.iter().map(|(series, value)| format!("{series} {value}")).collect();
        loop {
            let metrics = stage.metrics().await?;
            let as_expected =
                expected.iter().all(|wanted| metrics.lines().any(|line| line == wanted));
            if as_expected || since.elapsed() > PATIENCE {
                let names: Vec<_> =
                    expected.iter().filter_map(|line| line.rsplit_once(' ')).collect();
                let of_these = |line: &&str| {
                    names
                        .iter()
                        .any(|(name, _)| line.rsplit_once(' ').is_some_and(|(n, _)| n == *name))
                };
                let seen: Vec<_> = metrics.lines().filter(of_these).map(str::to_owned).collect();
                self.fact("metrics", &seen, (!as_expected).then_some(expected));
                return Ok(());
            }
            sleep(PAUSE).await;
        }
    }

    /// Ends all programs and shows how: each with success and nothing on stderr, and after so many
    /// requests to B, if that is known.
    pub(super) async fn end(
        &mut self,
        stage: Stage,
        arrivals: Option<usize>,
    ) -> anyhow::Result<()> {
        let closing = stage.close().await?;
        let mut well = arrivals.is_none_or(|arrivals| arrivals == closing.arrivals)
            && closing.strays.is_empty();
        let mut ends = Vec::new();
        for (role, status) in closing.statuses {
            well &= status.success();
            let code = status.code().map_or_else(|| format!("({status})"), |code| code.to_string());
            ends.push(format!("{} {code}", role.name()));
        }
        let in_all = |count| format!("; requests to B in all: {count}");
        let counted = arrivals.map_or_else(String::new, |_| in_all(closing.arrivals));
        let mut seen = vec![format!("exit codes on SIGTERM: {}{counted}", ends.join(", "))];
        seen.extend(closing.strays.iter().map(|line| format!("said besides: {line}")));
        let expected = || {
            let counted = arrivals.map_or_else(String::new, in_all);
            vec![format!("0 of each, nothing on stderr{counted}")]
        };
        self.fact("end", &seen, (!well).then(expected));
        Ok(())
    }
}

/// A line for people: time, message and details. Times of B's lines count from the request's
/// arrival there.
fn line_shown(line: &Value, since: Timestamp) -> String {
    let time = if line["attempts"].is_null() && line["request"].is_object() {
        &line["request"]["time"]
    } else {
        &line["time"]
    };
    let mut text = format!("{:5.2} s  {}", seconds(time, since), message(line));
    let number = |value: &Value| value.as_f64().filter(|value| *value >= 1.0);
    let mut add = |detail: String| text.push_str(&format!("  ({detail})"));
    if line["msg"].as_str().is_some_and(|message| message.ends_with(" to open"))
        && let Some(delay) = number(&line["delay_ms"])
    {
        add(format!("for {} s", delay / 1e3));
    }
    if let Some(attempts) = line["attempts"].as_u64() {
        add(format!("attempts: {attempts}"));
    } else if let Some(latency) =
        line["response"]["latency"].as_f64().filter(|latency| *latency >= 1e8)
    {
        add(format!("after {:.2} s", latency / 1e9));
    }
    if let Some(reason) = line["reason"].as_str().filter(|_| line["component"].is_string()) {
        add(reason.to_owned());
    }
    if let Some(generation) = line["generation"].as_u64() {
        add(format!("generation {generation}, digest {}", shown(&line["digest"])));
    }
    text
}

/// A value for people.
fn shown(value: &Value) -> String {
    match value.as_str() {
        Some(text) if text.len() > 24 => text.chars().take(12).chain(['…']).collect(),
        Some(text) => text.to_owned(),
        None => value.to_string(),
    }
}

fn cut(body: &str) -> String {
    let body = if body.is_empty() { "(no body)" } else { body };
    if body.chars().count() > SHOWN {
        format!("{}…", body.chars().take(SHOWN).collect::<String>())
    } else {
        body.to_owned()
    }
}
