//! The story of B in three copies, of which one is ill, and then another one gone.

use super::load::{LoadTally, TourLoad};
use super::stage::Stage;
use super::story::Story;

/// Few: a budget has room for the retries of all of them at once.
const CONNECTIONS: usize = 2;
/// How many requests each load has, at least.
const REQUESTS: usize = 300;

pub(super) async fn copies(story: &mut Story) -> anyhow::Result<()> {
    story.say(
        "B runs in three copies, and the second answers everything with a 503. A retry goes to \
         another copy.\n   First the copy with less to do gets a request, then each has its turn:",
    );
    let (well, ill): (&[&str], &[&str]) = (&["--quiet"], &["--quiet", "--rest", "503"]);
    let mut stage = Stage::open_copies(story.config(), &[well, ill, well]).await?;
    load(story, &stage, "least", "/").await;
    let attempts = attempts(&stage, 0).await?;
    let is_right = attempts[1] > 0 && attempts[1] < 20 && attempts[0].min(attempts[2]) > 30;
    let seen = [shares(attempts)];
    story.fact("shares", &seen, (!is_right).then(|| vec!["next to none for the ill".to_owned()]));

    load(story, &stage, "turns", "/turns").await;
    let state = stage.state().await?;
    let endpoint = &state["upstreams"][1]["endpoints"][1];
    let states = |at: usize| state["upstreams"][1]["endpoints"][at]["state"].as_str();
    let seen = (0..3).map(|at| states(at).unwrap_or("none")).collect::<Vec<_>>().join(", ");
    let is_right = seen == "in, ejected, in";
    story.fact("states", &[seen], (!is_right).then(|| vec!["in, ejected, in".to_owned()]));
    let endpoint = endpoint["url"].as_str().unwrap_or_default();
    let of = |what| format!(r#"fusebox_endpoint_{what}{{upstream="turns",endpoint="{endpoint}"}}"#);
    story.metrics(&stage, &[(&of("ejections_total"), 1), (&of("in"), 0)]).await?;

    stage.end_b().await?;
    story.say("The first copy has ended, too. One is left.");
    load(story, &stage, "one", "/").await;
    story.end(stage, None).await
}

/// A load on this path, of which no request may fail.
async fn load(story: &mut Story, stage: &Stage, what: &'static str, path: &'static str) {
    let load = TourLoad::start_on(stage.fusebox.address, CONNECTIONS, path);
    load.more(REQUESTS).await;
    let tally: LoadTally = load.end().await;
    story.load(what, &tally);
}

/// The attempts that each copy has had.
async fn attempts(stage: &Stage, upstream: usize) -> anyhow::Result<[u64; 3]> {
    let state = stage.state().await?;
    let endpoints = &state["upstreams"][upstream]["endpoints"];
    Ok([0, 1, 2].map(|at| endpoints[at]["attempts"].as_u64().unwrap_or_default()))
}

fn shares([first, second, third]: [u64; 3]) -> String {
    format!("{first}, {second} and {third} attempts")
}
