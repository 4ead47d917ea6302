//! The story of the slow tail: the same load without a hedge and with one.

use std::time::Duration;

use super::load::{LoadTally, TourLoad};
use super::stage::Stage;
use super::story::Story;

const CONNECTIONS: usize = 8;
/// How many requests each load has, at least.
const REQUESTS: usize = 2000;
/// One answer in eighty is slow: enough for the 99th percentile to be one of those.
const FAST: usize = 79;
const SLOW: Duration = Duration::from_millis(500);
/// As the configuration has it.
const DELAY: Duration = Duration::from_millis(50);

pub(super) async fn tail(story: &mut Story) -> anyhow::Result<()> {
    story.say(
        "B answers after 5 ms, but for one answer in eighty, which takes half a second. When it \
         has been asked for 50 ms,\n   fusebox asks once more. First without that, then with it:",
    );
    let turn = format!("200:delay=5*{FAST},200:delay={}", SLOW.as_millis());
    let script = vec![turn; 2 * REQUESTS / FAST].join(",");
    let options = ["--quiet", "--script", &script, "--rest", "200:delay=5"];
    let stage = Stage::open(story.config(), &options).await?;

    let plain = load(&stage, "/plain").await;
    let is_good = |tally: &LoadTally| tally.outcomes.keys().all(|it| it.starts_with("200 "));
    let is_slow = plain.percentile(99.0) >= SLOW && is_good(&plain);
    story.fact("without", &[shown(&plain)], (!is_slow).then(|| vec!["p99 of 500 ms".to_owned()]));
    let hedged = load(&stage, "/").await;
    // A busy machine may add to it.
    let is_fast = hedged.percentile(99.0) < SLOW - DELAY && is_good(&hedged);
    story.fact("with", &[shown(&hedged)], (!is_fast).then(|| vec!["a p99 below that".to_owned()]));

    let metrics = stage.metrics().await?;
    let count = |name: &str| {
        let series = format!(r#"fusebox_{name}_total{{route="/",policy="hedge"}} "#);
        let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
        value.and_then(|value| value.parse::<f64>().ok()).unwrap_or_default()
    };
    let (launched, won) = (count("hedges"), count("hedges_won"));
    let extra = 100.0 * launched / hedged.total() as f64;
    let seen = format!("{launched} more requests to B, {extra:.1} %; {won} of them won");
    // Some are hedged that are slow for want of a processor.
    let is_little = launched > 0.0 && won > 0.0 && extra < 20.0;
    story.fact("cost", &[seen], (!is_little).then(|| vec!["a few percent".to_owned()]));
    story.end(stage, None).await
}

async fn load(stage: &Stage, path: &'static str) -> LoadTally {
    let load = TourLoad::start_on(stage.fusebox.address, CONNECTIONS, path);
    load.more(REQUESTS).await;
    load.end().await
}

fn shown(tally: &LoadTally) -> String {
    let of = |part| tally.percentile(part).as_secs_f64() * 1e3;
    format!("{} requests: median {:.0} ms, p99 {:.0} ms", tally.total(), of(50.0), of(99.0))
}
