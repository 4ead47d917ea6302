//! The story of the tenant that floods: each has a limit of its own.

use std::collections::BTreeMap;

use anyhow::Context;
use http::{HeaderValue, Method, header};

use super::client::{TourConnection, WholeAnswer, request};
use super::stage::Stage;
use super::story::Story;

/// How many requests each tenant sends, and how many of them should be let through.
const TENANTS: [(&str, usize, usize); 3] = [("red", 30, 3), ("blue", 3, 3), ("green", 2, 2)];

pub(super) async fn tenants(story: &mut Story) -> anyhow::Result<()> {
    story.say(
        "Each tenant may ask three times a minute. Red floods, and blue and green ask as they \
         always do.",
    );
    let stage = Stage::open(story.config(), &["--quiet"]).await?;
    let mut last = None;
    for (tenant, requests, admitted) in TENANTS {
        let (statuses, answer) = ask(&stage, tenant, requests).await?;
        let rejected = requests - admitted;
        let mut expected = vec![format!("{admitted} of status 200")];
        expected.extend((rejected > 0).then(|| format!("{rejected} of status 429")));
        let seen: Vec<_> =
            statuses.iter().map(|(status, count)| format!("{count} of status {status}")).collect();
        let is_right = seen == expected;
        story.fact(tenant, &[seen.join(", ")], (!is_right).then(|| vec![expected.join(", ")]));
        last = last.or(Some(answer));
    }
    // Red's last answer.
    let answer = last.context("nobody has asked")?;
    let of = |name| answer.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let fields = [header::RETRY_AFTER.as_str(), "ratelimit-policy", "ratelimit"];
    let seen: Vec<_> =
        fields.iter().map(|name| format!("{name}: {}", of(*name).unwrap_or("none"))).collect();
    let wait = of("retry-after").and_then(|wait| wait.parse::<u32>().ok());
    // The next token comes after 20 s; a client is asked to stay away for up to a fifth longer.
    let is_told = wait.is_some_and(|wait| (1..=25).contains(&wait))
        && of("ratelimit-policy") == Some("\"per-tenant\";q=3;w=60")
        && of("ratelimit").is_some_and(|left| left.starts_with("\"per-tenant\";r=0;t="));
    let expected = || vec!["a wait of at most 25 s, and nothing left".to_owned()];
    story.fact("told", &seen, (!is_told).then(expected));

    let state = stage.state().await?;
    let busiest = state["policies"]["per-tenant"]["keys"]["busiest"].as_array();
    let busiest: Vec<_> = busiest
        .into_iter()
        .flatten()
        .map(|key| format!("{}: {} calls", key["key"].as_str().unwrap_or_default(), key["calls"]))
        .collect();
    let expected = TENANTS.map(|(tenant, requests, _)| format!("{tenant}: {requests} calls"));
    let is_right = busiest == expected;
    story.fact("busiest", &busiest, (!is_right).then(|| expected.to_vec()));
    let rejected =
        r#"fusebox_rejections_total{route="/",policy="per-tenant",reason="rate-limited"}"#;
    story.metrics(&stage, &[(rejected, 27)]).await?;
    story.end(stage, None).await
}

/// Asks so often as this tenant: the number of answers of each status, and the last one.
async fn ask(
    stage: &Stage,
    tenant: &'static str,
    requests: usize,
) -> anyhow::Result<(BTreeMap<u16, usize>, WholeAnswer)> {
    let mut connection = TourConnection::open(stage.fusebox.address).await?;
    let (mut statuses, mut last) = (BTreeMap::new(), None);
    for _ in 0..requests {
        let mut request = request(Method::GET, "/", "")?;
        request.headers_mut().insert("x-tenant", HeaderValue::from_static(tenant));
        let answer = connection.send(request).await?;
        *statuses.entry(answer.status.as_u16()).or_default() += 1;
        last = Some(answer);
    }
    Ok((statuses, last.context("nobody has asked")?))
}
