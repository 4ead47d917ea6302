//! failsafe-go as the oracle: every recorded scenario through our pipeline, with exact times.
//!
//! Where we deviate on purpose, what we do instead is in `fixtures/deviations.json`, worked out by
//! hand from what each policy promises, and held against us just as exactly. `FUSEBOX_ORACLE=path`
//! replays another fixture of the same schema.

mod compare;
mod replay;
mod scenario;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use serde::Deserialize;

use self::scenario::{Observed, Scenario};

const FIXTURE: &str = include_str!("../fixtures/failsafe-go.json");
const DEVIATIONS: &str = include_str!("../fixtures/deviations.json");

/// What we do in a deviating scenario, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deviation {
    reason: String,
    observed: Observed,
}

#[derive(Debug, Default, PartialEq)]
struct Counts {
    replayed: usize,
    deviating: usize,
    /// Deviating, without an expectation of ours.
    unjudged: usize,
    differing: usize,
}

#[derive(Default)]
struct Report {
    text: String,
    counts: Counts,
}

impl Report {
    fn line(&mut self, line: &str) {
        let _ = writeln!(self.text, "{line}");
    }

    fn difference(&mut self, id: &str, what: &str) {
        self.counts.differing += 1;
        self.line(&format!("differs    {id}\n{}", what.trim_end()));
    }
}

/// Our expectations: of the built-in scenarios, and of others only if they are the same but for
/// what was observed.
struct Expectations {
    deviations: BTreeMap<String, Deviation>,
    built_in: Vec<Scenario>,
}

impl Expectations {
    fn new() -> Self {
        Self {
            deviations: serde_json::from_str(DEVIATIONS).expect("deviations.json is readable"),
            built_in: scenario::read(FIXTURE).expect("the built-in fixture is readable"),
        }
    }

    fn of(&self, scenario: &Scenario) -> Option<&Deviation> {
        let known = self.built_in.iter().find(|known| known.id == scenario.id)?;
        let same = known.policies == scenario.policies
            && known.upstream == scenario.upstream
            && known.client == scenario.client;
        self.deviations.get(&scenario.id).filter(|_| same)
    }
}

async fn replay_all(scenarios: &[Scenario], expectations: &Expectations) -> Report {
    let mut report = Report::default();
    for scenario in scenarios {
        let id = &scenario.id;
        let got = match replay::replay(scenario).await {
            Ok(got) => got,
            Err(problem) => {
                report.difference(id, &format!("    {problem}"));
                continue;
            }
        };
        let expected = match (&scenario.deviation, expectations.of(scenario)) {
            (None, _) => &scenario.observed,
            (Some(_), Some(deviation)) => &deviation.observed,
            (Some(text), None) => {
                report.counts.unjudged += 1;
                let did = compare::display(&got);
                report.line(&format!(
                    "deviates   {id}: {text}; not judged, what we did:\n{}",
                    did.trim_end()
                ));
                continue;
            }
        };
        if let Some(difference) = compare::difference(expected, &got) {
            report.difference(id, &difference);
        } else if scenario.deviation.is_some() {
            report.counts.deviating += 1;
            let reason = expectations.of(scenario).map_or("", |deviation| &deviation.reason);
            report.line(&format!("deviates   {id}: {reason}"));
        } else {
            report.counts.replayed += 1;
            report.line(&format!("replayed   {id}"));
        }
    }
    let Counts { replayed, deviating, unjudged, differing } = report.counts;
    let total = scenarios.len();
    report.line(&format!(
        "{total} scenarios: {replayed} replayed, {deviating} deviate as expected, {unjudged} \
         deviate unjudged, {differing} differ"
    ));
    report
}

/// Past the test harness, which would keep the lines of a test that passes to itself.
fn print(report: &Report) {
    let text = format!("\n{}", report.text);
    std::io::stdout().lock().write_all(text.as_bytes()).expect("stdout is open");
}

#[tokio::test(start_paused = true)]
async fn every_scenario_of_failsafe_go_is_replayed() {
    let expectations = Expectations::new();
    let path = std::env::var_os("FUSEBOX_ORACLE");
    let scenarios = match &path {
        None => expectations.built_in.clone(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .unwrap_or_else(|error| panic!("FUSEBOX_ORACLE: `{}`: {error}", path.display()));
            scenario::read(&text)
                .unwrap_or_else(|problems| panic!("FUSEBOX_ORACLE:\n{}", problems.join("\n")))
        }
    };
    let report = replay_all(&scenarios, &expectations).await;
    print(&report);
    assert_eq!(report.counts.differing, 0, "scenarios differ:\n{}", report.text);
    if path.is_none() {
        let expected = Counts { replayed: 31, deviating: 7, unjudged: 0, differing: 0 };
        assert_eq!((scenarios.len(), report.counts), (38, expected));
    }
}

#[test]
fn every_expectation_of_ours_belongs_to_a_scenario_that_deviates() {
    let expectations = Expectations::new();
    for id in expectations.deviations.keys() {
        let scenario = expectations.built_in.iter().find(|scenario| scenario.id == *id);
        assert!(scenario.is_some_and(|scenario| scenario.deviation.is_some()), "{id}");
    }
}

// ===== the runner itself =====

const SOUND: &str = r#"{
    "id": "sound", "covers": [], "policies": [{"type": "retry", "delay_ms": 10}],
    "upstream": {"script": "close", "rest": "200:body=x"}, "client": [{"at_ms": 5}],
    "observed": {
        "requests": [{"request": 0, "status": 200, "body": "x", "error": null,
            "upstream_attempts": 2, "done_at": 17,
                      "duration": 12}],
        "attempts": [{"n": 0, "request": 0, "step": "close", "outcome": "closed", "at": 5},
                     {"n": 1, "request": 0, "step": "200:body=x", "outcome": "responded", "at": 16,
                      "since_previous_end_of_same_request": 10}],
        "events": [
            {"kind": "retry_scheduled", "request": 0, "detail": "attempts=1",
             "delay_ms": 10, "at": 6}
        ]
    }
}"#;

/// A fixture of the sound scenario with `from` replaced by `to`.
fn fixture(from: &str, to: &str) -> String {
    assert!(SOUND.contains(from), "{from}");
    format!(r#"{{"virtual_clock": true, "scenarios": [{}]}}"#, SOUND.replacen(from, to, 1))
}

async fn counts(fixture: &str) -> Counts {
    let scenarios = scenario::read(fixture).expect("a readable fixture");
    replay_all(&scenarios, &Expectations::new()).await.counts
}

#[tokio::test(start_paused = true)]
async fn a_sound_scenario_is_replayed_and_each_change_to_what_was_observed_is_a_difference() {
    assert_eq!(counts(&fixture("", "")).await, Counts { replayed: 1, ..Counts::default() });
    for (from, to) in [
        (r#""status": 200"#, r#""status": 201"#),
        (r#""body": "x""#, r#""body": "y""#),
        (r#""upstream_attempts": 2"#, r#""upstream_attempts": 1"#),
        (r#""done_at": 17"#, r#""done_at": 18"#),
        (r#""duration": 12"#, r#""duration": 11.5"#),
        (r#""outcome": "closed""#, r#""outcome": "canceled""#),
        (r#""step": "close""#, r#""step": "hang""#),
        (r#""at": 16"#, r#""at": 15"#),
        (
            r#""since_previous_end_of_same_request": 10"#,
            r#""since_previous_end_of_same_request": 11"#,
        ),
        (r#""detail": "attempts=1""#, r#""detail": "attempts=2""#),
        (r#""delay_ms": 10, "at": 6"#, r#""delay_ms": 11, "at": 6"#),
        (r#""at": 6"#, r#""at": 7"#),
        (r#""retry_scheduled""#, r#""retry_aborted""#),
        (r#""error": null"#, r#""error": "EOF", "error_kinds": ["transport"]"#),
    ] {
        assert_eq!(
            counts(&fixture(from, to)).await,
            Counts { differing: 1, ..Counts::default() },
            "{to}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn delays_of_fractions_of_a_millisecond_are_late_by_less_than_one_each() {
    let fraction =
        fixture(r#""type": "retry", "delay_ms": 10"#, r#""type": "retry", "delay_ms": 9.5"#);
    let fraction = fraction.replace(r#""delay_ms": 10, "at": 6"#, r#""delay_ms": 9.5, "at": 6"#);
    let fraction = fraction.replace(r#""done_at": 17"#, r#""done_at": 16.5"#);
    assert_eq!(counts(&fraction).await, Counts { replayed: 1, ..Counts::default() });
    let early = fraction.replace(r#""done_at": 16.5"#, r#""done_at": 17.5"#);
    assert_eq!(counts(&early).await, Counts { differing: 1, ..Counts::default() });
}

#[tokio::test(start_paused = true)]
async fn what_deviates_unjudged_is_not_counted_as_replayed() {
    let deviating = fixture(r#""covers": []"#, r#""covers": [], "deviation": "on purpose""#);
    assert_eq!(counts(&deviating).await, Counts { unjudged: 1, ..Counts::default() });
    // The id of one of ours does not make it one of ours.
    let borrowed = deviating.replace(r#""id": "sound""#, r#""id": "fallback-shared-response""#);
    assert_eq!(counts(&borrowed).await, Counts { unjudged: 1, ..Counts::default() });
}

#[tokio::test(start_paused = true)]
async fn policies_that_cannot_be_built_and_requests_that_never_end_are_differences() {
    let invalid = fixture(r#""delay_ms": 10"#, r#""max_retries": -2"#);
    assert_eq!(counts(&invalid).await, Counts { differing: 1, ..Counts::default() });
    let endless = fixture(r#""script": "close""#, r#""script": "hang""#);
    assert_eq!(counts(&endless).await, Counts { differing: 1, ..Counts::default() });
}

#[test]
fn a_scenario_that_cannot_be_read_is_named() {
    for (from, to, why) in [
        (r#""covers": []"#, r#""covers": [], "cancel": 1"#, "unknown field `cancel`"),
        (r#""type": "retry""#, r#""type": "cache""#, "unknown variant `cache`"),
        (r#""delay_ms": 10"#, r#""jitter_ms": 10"#, "unknown field `jitter_ms`"),
        (r#""delay_ms": 10"#, r#""handle": {"errors": ["eof"]}"#, "unknown variant `eof`"),
        (r#""at_ms": 5"#, r#""at_ms": 5, "headers": {}"#, "unknown field `headers`"),
        (r#""at_ms": 5"#, r#""at_ms": -5"#, "a request before the start"),
        (r#""script": "close""#, r#""script": "close,2OO""#, "found `2OO`"),
        (r#""rest": "200:body=x""#, r#""rest": """#, "upstream.rest"),
        (r#""kind": "retry_scheduled""#, r#""kind": "retried""#, "unknown variant `retried`"),
        (r#""observed": {"#, r#""observed": {"stable": false,"#, "not stable"),
        (r#""error": null"#, r#""error": "EOF""#, "go together"),
        (r#""client": [{"at_ms": 5}]"#, r#""client": []"#, "no client requests"),
    ] {
        let problems = scenario::read(&fixture(from, to)).expect_err(to).join("\n");
        assert!(problems.starts_with("scenario sound: ") && problems.contains(why), "{problems}");
    }
    let twice = format!(r#"{{"virtual_clock": true, "scenarios": [{SOUND}, {SOUND}]}}"#);
    assert_eq!(scenario::read(&twice).unwrap_err(), ["scenario sound: the id is taken"]);
    let nameless = scenario::read(&fixture(r#""id": "sound","#, "")).unwrap_err();
    assert!(nameless[0].starts_with("scenario number 0: missing field `id`"), "{nameless:?}");
}

#[test]
fn a_file_that_is_no_fixture_is_refused() {
    for text in [
        "",
        "{}",
        r#"{"virtual_clock": true}"#,
        r#"{"virtual_clock": true, "scenarios": []}"#,
        &fixture("", "").replace("true", "false"),
    ] {
        assert!(scenario::read(text).unwrap_err()[0].starts_with("not a fixture: "), "{text}");
    }
}
