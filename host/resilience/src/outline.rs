//! What a policy does to a call, in outline: for looking at a whole route before it runs.

use std::time::Duration;

use crate::condition::Condition;
use crate::error::Failure;

/// What a policy does, at most and at worst.
#[derive(Clone, Debug)]
pub struct Outline<'a> {
    /// In a few words, with its numbers.
    pub words: String,
    /// What makes it act, if that is an outcome of what is inside.
    pub acts: Option<Acts<'a>>,
    /// How often it runs what is inside. `None`: there is no bound.
    pub runs: Option<u64>,
    /// The key that says so.
    pub runs_key: &'static str,
    /// After so long it begins no further run.
    pub last_run: Option<Duration>,
    /// How long it waits between the runs, or before them, in all.
    pub waits: Duration,
    /// The same where a breaker inside asks for time.
    pub waits_for_breaker: Duration,
    /// After so long at the earliest it runs what is inside once more, as this key says.
    pub runs_again: Option<(&'static str, Duration)>,
    /// Whether it waits for the client's request body before it goes on.
    pub waits_for_clients: bool,
    /// It cuts off what takes longer.
    pub limit: Option<Duration>,
    /// The upstream that it may ask besides.
    pub asks: Option<&'a str>,
    /// How much of a response body it keeps for components to look at, in bytes.
    pub peeked: usize,
    /// Failures of its own.
    pub makes: &'static [Failure],
    /// Whether a call holds a place that others wait for, or are turned away for, until its end.
    pub holds_place: bool,
}

/// The condition that makes a policy act.
#[derive(Clone, Debug)]
pub struct Acts<'a> {
    /// What it acts on.
    pub on: &'a Condition,
    /// But not on this.
    pub but_on: Option<&'a Condition>,
    /// What is never done if nothing comes that it acts on: "it never retries".
    pub never: &'static str,
    /// What comes of an outcome that it acts on.
    pub result: ActsResult,
}

/// What comes of an outcome that a policy acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActsResult {
    /// It goes on as it came.
    Same,
    /// A failure of the policy's own takes its place.
    Failure,
    /// A response that nobody takes for a failure takes its place.
    Answer {
        /// Whether there may be none, so that the outcome goes on as it came.
        may_decline: bool,
    },
    /// It is counted, and so is everything else, as a success.
    Counted {
        /// Whether what took the upstream too long counts as a failure, too.
        slow_calls: bool,
        /// Whether only the endpoint of the attempt that it came from gets to know.
        by_endpoint: bool,
    },
}

impl Outline<'_> {
    /// A policy that lets everything pass.
    pub fn passing(words: impl Into<String>) -> Self {
        Self {
            words: words.into(),
            acts: None,
            runs: Some(1),
            runs_key: "max_retries",
            last_run: None,
            waits: Duration::ZERO,
            waits_for_breaker: Duration::ZERO,
            runs_again: None,
            waits_for_clients: false,
            limit: None,
            asks: None,
            peeked: 0,
            makes: &[],
            holds_place: false,
        }
    }
}
