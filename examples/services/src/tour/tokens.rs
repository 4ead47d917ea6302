//! The story of the two other things that only a component knows: how long to wait, and who asks.

use super::stage::{Question, Stage};
use super::story::{Expected, Is, Story, between};

/// Tokens whose subjects are `red` and `blue`.
const RED: &str = "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJyZWQifQ.c2ln";
const BLUE: &str = "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJibHVlIn0.c2ln";

const FINE: &str = "200: OK";
const REFUSED: &str = "429: Too Many Requests";

pub(super) async fn tokens(story: &mut Story) -> anyhow::Result<()> {
    story.say(
        "B is a language model without room, and says until when in a header of its own. A \
         component reads it.",
    );
    let script = "429:body=model-limit,200,429:body=model-quota";
    let stage = Stage::open(story.config(), &["--script", script]).await?;
    let red = || Question::to_fusebox("/").with_token(RED);
    let fine = |log, b| Expected {
        status: 200,
        body: "hello from service B",
        after: between(0, 10),
        log,
        b,
    };
    let after = between(1, 10);
    let expected =
        Expected { after, ..fine(&["Retry 1 after delay of 1.5s", FINE], &[REFUSED, FINE]) };
    story.ask(&stage, red(), expected).await?;
    story.say("Now a quota is used up. It says so in the body, and no wait helps.");
    let expected = Expected {
        status: 429,
        body: "insufficient_quota",
        after: between(0, 10),
        log: &["Not retried: the component says not to, or too late", REFUSED],
        b: &[REFUSED],
    };
    story.ask(&stage, red(), expected).await?;

    story.say("Another component reads the token: each who has one may ask three times a minute.");
    story.ask(&stage, red(), fine(&[FINE], &[FINE])).await?;
    let expected = Expected {
        status: 429,
        body: "rate limit exceeded",
        after: between(0, 10),
        log: &["Call rejected: rate limit exceeded", REFUSED],
        b: &[],
    };
    story.ask(&stage, red(), expected).await?;
    let blue = Question::to_fusebox("/").with_token(BLUE);
    story.ask(&stage, blue, fine(&[FINE], &[FINE])).await?;
    let keys = [("count", Is::exactly(2))];
    story.state(&stage, "/policies/per-tenant/keys", &keys).await?;
    for (component, calls) in [("rate-limit-reset", 2), ("jwt-tenant", 5)] {
        let asked = [("calls", Is::exactly(calls))];
        story.state(&stage, &format!("/components/{component}"), &asked).await?;
    }
    story.end(stage, Some(5)).await
}
