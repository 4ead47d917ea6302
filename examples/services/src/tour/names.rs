//! The story of B behind a name: its copies come and go, and the one in reserve takes over.

use fusebox_dev::{NameServer, Offer, Says, local};
use jiff::Timestamp;

use super::load::TourLoad;
use super::log::message;
use super::stage::Stage;
use super::story::{Is, Story};

/// One: other stories go on meanwhile.
const CONNECTIONS: usize = 1;
/// How many requests go on after each change, at least.
const REQUESTS: usize = 100;
/// For how many seconds an answer of the name server is good.
const GOOD_FOR: u32 = 1;

const CHANGED: &str = "Endpoints changed";
const LATER: &str = "Endpoints of a later tier used: none in front is in";

pub(super) async fn names(story: &mut Story) -> anyhow::Result<()> {
    story.say(
        "A name server says where B runs, and that one of its copies is in reserve. While requests \
         go on,\n   the name gains a copy and loses the first one.",
    );
    let server = NameServer::start(Says::Addresses(vec![local(1)]), Says::Nothing, GOOD_FOR);
    let mut ports = Vec::new();
    let quiet: &[&str] = &["--quiet"];
    let mut stage = Stage::open_where(story.config(), &[quiet; 3], |copies| {
        ports.extend(copies.iter().map(|copy| copy.port()));
        server.offers(&offers(&[(10, ports[1]), (20, ports[2])]));
        vec![("NAME_SERVER", server.to_string())]
    })
    .await?;
    let load = TourLoad::start(stage.fusebox.address, CONNECTIONS);
    load.more(REQUESTS).await;
    let url = |copy: usize| format!("http://127.0.0.1:{}", ports[copy]);
    server.offers(&offers(&[(10, ports[0]), (10, ports[1]), (20, ports[2])]));
    changed(story, &stage, 2, ("added", &url(0))).await;
    load.more(REQUESTS).await;
    server.offers(&offers(&[(10, ports[0]), (20, ports[2])]));
    changed(story, &stage, 3, ("removed", &url(1))).await;
    load.more(REQUESTS).await;
    let used = [("tier", Is::exactly(10)), ("attempts", Is::Between(1.0, f64::MAX))];
    story.state(&stage, "/upstreams/0/endpoints/0", &used).await?;
    let spared = [("tier", Is::exactly(20)), ("attempts", Is::exactly(0))];
    story.state(&stage, "/upstreams/0/endpoints/1", &spared).await?;

    story.say("The only copy that is not in reserve ends, too.");
    let since = Timestamp::now();
    stage.end_b().await?;
    let lines = stage.fusebox.log.some(1, |line| message(line) == LATER).await;
    story.lines("fusebox", &lines[..lines.len().min(1)], &[LATER], since);
    load.more(REQUESTS).await;
    story.state(&stage, "/upstreams/0", &[("tier", Is::exactly(20))]).await?;
    story.metrics(&stage, &[(r#"fusebox_upstream_tier{upstream="b"}"#, 1)]).await?;
    story.load("load", &load.end().await);
    story.end(stage, None).await
}

/// Where the service is offered: priorities and ports.
fn offers(places: &[(u16, u16)]) -> Vec<Offer> {
    places.iter().map(|(priority, port)| (*priority, 1, *port, "b.test")).collect()
}

/// Shows how its endpoints have changed that time: one has come, or gone.
async fn changed(story: &mut Story, stage: &Stage, time: usize, (how, url): (&str, &str)) {
    let lines = stage.fusebox.log.some(time, |line| message(line) == CHANGED).await;
    let line = lines.get(time - 1).cloned().unwrap_or_default();
    let seen = ["added", "removed"].map(|how| (how, line[how].as_str()));
    let seen: Vec<_> = seen.iter().filter_map(|(how, urls)| Some((*how, (*urls)?))).collect();
    let shown = |(how, urls): &(&str, &str)| format!("{CHANGED}: {how} {urls}");
    let expected = (seen != [(how, url)]).then(|| vec![shown(&(how, url))]);
    story.fact("fusebox", &seen.iter().map(shown).collect::<Vec<_>>(), expected);
}
