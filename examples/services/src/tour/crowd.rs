//! The story of too many requests: three times as many as B can answer, without a limit and with
//! one that finds out how many that are.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::client::{request, send};
use super::stage::Stage;
use super::story::Story;

/// B works on two requests at once, for 20 ms each, so in a second it answers:
const CAPACITY: u32 = 100;
const SECONDS: u32 = 5;
/// An answer is good within this time.
const GOOD: Duration = Duration::from_millis(250);
/// After this time a client leaves.
const PATIENCE: Duration = Duration::from_secs(1);

/// What became of the requests.
#[derive(Debug, Default)]
struct CrowdTally {
    good: u32,
    late: u32,
    rejected: u32,
    left: u32,
}

pub(super) async fn crowd(story: &mut Story) -> anyhow::Result<()> {
    story.say(
        "B can answer 100 requests a second, and gets 300. Who has no answer after a second \
         leaves; one within 250 ms is\n   good. First without a limit, then with one that learns \
         how much B can do:",
    );
    let options = ["--quiet", "--servers", "2", "--rest", "200:delay=20"];
    let stage = Stage::open(story.config(), &options).await?;
    let plain = come(stage.fusebox.address, "/plain").await?;
    // Those who came first are answered before the line is long.
    let is_lost = plain.share() < 0.3;
    story.fact("without", &[plain.shown()], (!is_lost).then(|| vec!["hardly any good".to_owned()]));
    let limited = come(stage.fusebox.address, "/").await?;
    // A busy machine takes its share.
    let is_kept = limited.share() > 0.5 && limited.share() > 2.0 * plain.share();
    let expected = || vec!["most of what B can answer".to_owned()];
    story.fact("with", &[limited.shown()], (!is_kept).then(expected));
    story.end(stage, None).await
}

/// Three times as many as B can answer, whatever becomes of those before.
async fn come(address: SocketAddr, path: &'static str) -> anyhow::Result<CrowdTally> {
    let (start, mut clients) = (Instant::now(), JoinSet::new());
    for number in 0..3 * CAPACITY * SECONDS {
        let due = start + Duration::from_secs(1) * number / (3 * CAPACITY);
        sleep_until(due).await;
        let request = request(Method::GET, path, "")?;
        clients.spawn(async move {
            let answer = timeout(PATIENCE, send(address, request)).await;
            let status = answer.ok().and_then(Result::ok).map(|answer| answer.status.as_u16());
            (status, due.elapsed())
        });
    }
    let mut tally = CrowdTally::default();
    while let Some(client) = clients.join_next().await {
        match client? {
            (Some(200), took) if took <= GOOD => tally.good += 1,
            (Some(200), _) => tally.late += 1,
            (Some(_), _) => tally.rejected += 1,
            (None, _) => tally.left += 1,
        }
    }
    Ok(tally)
}

impl CrowdTally {
    /// Of what B can answer.
    fn share(&self) -> f64 {
        f64::from(self.good) / f64::from(CAPACITY * SECONDS)
    }

    fn shown(&self) -> String {
        let Self { good, late, rejected, left } = self;
        let share = 100.0 * self.share();
        format!(
            "{good} good, {share:.0} % of what B can answer; {late} late, {rejected} rejected at \
             once, {left} left"
        )
    }
}
