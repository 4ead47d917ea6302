//! The tour: the stories of the post, run with real processes on free ports and checked.
//!
//! [`tell`] plays all `stories`, and that of the `swap`, at the same time: each has a `stage` of
//! its own, and most of what they do is wait. A `story` is printed once those before it have been.
//! [`run`](run()) starts the three programs for somebody who wants to try for himself.
//!
//! Nothing here sleeps: each wait is for an answer, a line of a log or a state. Times are checked
//! to be never early, with room above for a busy machine.

mod builds;
mod client;
mod config;
mod copies;
mod crowd;
mod grpc;
mod kept;
mod load;
mod log;
mod names;
mod print;
mod program;
mod run;
mod stage;
mod stories;
mod story;
mod swap;
mod tail;
mod tenants;
mod tokens;

pub use run::{Addresses, run};

use anyhow::bail;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use tokio::time::Instant;

use crate::stop::Stop;
use config::config;
use print::print;
use story::Story;

/// Tells all stories.
///
/// # Errors
/// Something is not as it should be, or it was told to stop before the end.
pub async fn tell(stop: Stop) -> anyhow::Result<()> {
    tokio::select! {
        biased;
        () = stop.requested() => bail!("stopped before the end"),
        told = tell_all() => told,
    }
}

async fn tell_all() -> anyhow::Result<()> {
    let since = Instant::now();
    let post = "Composition, as the post has it";
    let (composition, as_it_should_be) =
        (config("composition.toml")?, "Composition, as it should have been");
    let mut stories: FuturesOrdered<LocalBoxFuture<'_, Story>> = [
        Story::told("1", "Timeout", config("timeout.toml")?, stories::timeout).boxed_local(),
        Story::told("2", "Retry", config("retry.toml")?, stories::retry).boxed_local(),
        Story::told(
            "3",
            "Circuit breaker",
            config("circuit-breaker.toml")?,
            stories::circuit_breaker,
        )
        .boxed_local(),
        Story::told("4", "Fallback", config("fallback.toml")?, stories::fallback).boxed_local(),
        Story::told("5a", post, config("composition-post.toml")?, stories::composition_of_the_post)
            .boxed_local(),
        Story::told("5b", as_it_should_be, composition.clone(), stories::composition).boxed_local(),
        Story::told("6", "GraphQL", config("graphql.toml")?, stories::graphql).boxed_local(),
        Story::told("7", "Language model", config("language-model.toml")?, stories::language_model)
            .boxed_local(),
        Story::told("8", "A swap under load", composition, swap::swap).boxed_local(),
        Story::told("9", "Hedge", config("hedge.toml")?, tail::tail).boxed_local(),
        Story::told("10", "A limit for each tenant", config("keys.toml")?, tenants::tenants)
            .boxed_local(),
        Story::told("11", "A cache while B is down", config("cache.toml")?, kept::kept)
            .boxed_local(),
        Story::told("12", "Three copies of B", config("endpoints.toml")?, copies::copies)
            .boxed_local(),
        Story::told("13", "B by gRPC", config("grpc.toml")?, grpc::grpc).boxed_local(),
        Story::told("14", "Tokens", config("tokens.toml")?, tokens::tokens).boxed_local(),
        Story::told("15", "Too many for B", config("overload.toml")?, crowd::crowd).boxed_local(),
        Story::told("16", "Copies behind a name", config("names.toml")?, names::names)
            .boxed_local(),
    ]
    .into_iter()
    .collect();
    print(
        "Service B plays a script, fusebox stands in front of it, and all that is said below is \
         seen now. A ✓ marks what is\nas it should be, a ✗ what is not. \
         It takes about half a minute.\n\n",
    );

    let (mut checked, mut wrong) = (0, Vec::new());
    while let Some(story) = stories.next().await {
        print(&story.text);
        checked += story.checked;
        wrong.extend((story.wrong > 0).then_some(story.number));
    }
    let seconds = since.elapsed().as_secs_f64();
    if !wrong.is_empty() {
        bail!(
            "not as it should be: story {} (of {checked} things seen in {seconds:.0} s)",
            wrong.join(", ")
        );
    }
    print(&format!("All {checked} things seen are as they should be ({seconds:.0} s).\n"));
    Ok(())
}
