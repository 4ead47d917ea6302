//! The story of the cache: what B has said is said again, also while B is down.

use std::time::Duration;

use anyhow::Context;
use tokio::time::sleep;

use super::client::WholeAnswer;
use super::stage::{Question, Stage};
use super::story::{Expected, Story, between};

const HELLO: &str = "hello from service B";
const FINE: &str = "200: OK";
/// As the configuration has it.
const FRESH: Duration = Duration::from_secs(1);

pub(super) async fn kept(story: &mut Story) -> anyhow::Result<()> {
    story.say("What B says is fresh for a second: of two who ask, one asks B.");
    let mut stage = Stage::open(story.config(), &[]).await?;
    let expected = |log, b| Expected { status: 200, body: HELLO, after: between(0, 10), log, b };
    let first = story.ask(&stage, Question::to_fusebox("/"), expected(&[FINE], &[FINE])).await?;
    told(story, &first, "fusebox; fwd=uri-miss; stored")?;
    let second = story.ask(&stage, Question::to_fusebox("/"), expected(&[FINE], &[])).await?;
    told(story, &second, "fusebox; hit; ttl=1")?;

    stage.end_b().await?;
    sleep(FRESH).await;
    story.say("B has ended, and the second is over. What B said stands for the failure.");
    let stale = expected(&["Stale response served", FINE], &[]);
    let third = story.ask(&stage, Question::to_fusebox("/"), stale).await?;
    told(story, &third, "fusebox; fwd=stale; detail=stale-if-error")?;
    let of =
        |result: &str| format!(r#"fusebox_cache_requests_total{{route="/",result="{result}"}}"#);
    let (miss, hit, stale) = (of("miss"), of("hit"), of("stale"));
    story.metrics(&stage, &[(&miss, 1), (&hit, 1), (&stale, 1)]).await?;
    story.end(stage, Some(1)).await
}

/// What the cache says that it did.
fn told(story: &mut Story, answer: &WholeAnswer, expected: &str) -> anyhow::Result<()> {
    let said = answer.headers.get("cache-status").context("no `Cache-Status`")?.to_str()?;
    let wrong = (said != expected).then(|| vec![expected.to_owned()]);
    story.fact("told", &[format!("Cache-Status: {said}")], wrong);
    Ok(())
}
