//! What a route comes to at worst, for `fusebox check`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::config::{ConfigDuration, ConfigSize};
use fusebox_resilience::{Policy, Remark, Review, ReviewedRoute, Worst};

use crate::config::{
    Config, EndpointsConfig, RouteConfig, RouteUpstream, UpstreamConfig, UpstreamSettings,
};
use crate::running::PoliciesByName;

/// How many fallbacks may ask each other's upstreams before that has no bound.
const NESTED: u32 = 8;

/// A route, looked at before it runs.
#[derive(Debug)]
pub struct RouteReview {
    /// The route's name.
    pub name: Arc<str>,
    upstream: String,
    upstream_words: String,
    attempt: Duration,
    review: Review,
    /// How much of a request body is kept to be sent again,
    kept: ConfigSize,
    /// or waited for.
    waited_for: ConfigSize,
}

impl RouteReview {
    /// Looks at a route. `None`: its upstream is not declared.
    pub(crate) fn of(
        route: &RouteConfig,
        name: Arc<str>,
        config: &Config,
        policies: &PoliciesByName,
    ) -> Option<Self> {
        let upstream = match &route.upstream {
            RouteUpstream::Own(upstream) => upstream,
            RouteUpstream::Named(name) => config.upstreams.get(name)?,
        };
        let UpstreamSettings { connect_timeout, response_timeout, max_in_flight, .. } =
            upstream.settings;
        let line = max_in_flight.map_or(String::new(), |places| {
            format!("{places} at once, waiting up to {connect_timeout}; ")
        });
        let balance = upstream.fleet.balance.name();
        let choice = match &upstream.endpoints {
            EndpointsConfig::Listed(_) if !upstream.is_fleet() => String::new(),
            EndpointsConfig::Listed(endpoints) => {
                let first = endpoints.iter().map(|it| it.tier).min().unwrap_or_default();
                let behind = endpoints.iter().filter(|it| it.tier > first).count();
                let behind = match behind {
                    0 => String::new(),
                    count => format!(", {count} in reserve"),
                };
                format!("one of {} endpoints{behind}, by {balance}; ", endpoints.len())
            }
            EndpointsConfig::Dns(of) => {
                format!("one of the endpoints at {}, by {balance}; ", of.dns.host)
            }
        };
        let pipeline = pipeline(&route.policies, policies);
        let repeats = pipeline.iter().any(|policy| policy.repeats());
        let others = |name: &str| worst_of(name, config, policies, NESTED);
        let of_route = ReviewedRoute {
            attempt: attempt(upstream),
            is_grpc: route.grpc,
            methods: route.methods.as_deref(),
            max_deadline: config.listener.max_deadline.map(|limit| limit.0),
        };
        Some(Self {
            name,
            upstream: upstream.label().to_owned(),
            upstream_words: format!(
                "{choice}{line}up to {connect_timeout} to connect, {response_timeout} to the \
                 response head"
            ),
            attempt: attempt(upstream),
            review: Review::of(&pipeline, of_route, &others),
            kept: if repeats { route.max_replay_body } else { ConfigSize(0) },
            waited_for: route.max_replay_body,
        })
    }

    /// Its policies as a chain, a line each, with what each comes to with all that is inside it.
    pub fn explained(&self) -> Explained<'_> {
        Explained(self)
    }

    /// The first of its policies that waits for request bodies, if any has to be waited for.
    pub(crate) fn waits_for_clients(&self) -> Option<&str> {
        self.review.waits_for_clients.as_deref().filter(|_| self.waited_for.0 > 0)
    }

    fn held(&self) -> String {
        let (kept, peeked) = (self.kept, ConfigSize(self.review.peeked as u64));
        match (kept.0, peeked.0) {
            (0, 0) => "no body is kept".into(),
            (_, 0) => format!("{kept} of the request body kept"),
            (0, _) => format!("{peeked} of the response body looked at"),
            _ => {
                format!("{kept} of the request body kept, {peeked} of the response body looked at")
            }
        }
    }
}

fn pipeline(names: &[String], policies: &PoliciesByName) -> Vec<Arc<dyn Policy>> {
    names.iter().filter_map(|name| policies.get(&**name)).cloned().collect()
}

/// How long an attempt may take, with the wait for its place.
fn attempt(upstream: &UpstreamConfig) -> Duration {
    let UpstreamSettings { connect_timeout, response_timeout, max_in_flight, .. } =
        upstream.settings;
    let line = max_in_flight.map_or(Duration::ZERO, |_| connect_timeout.0);
    line.saturating_add(connect_timeout.0).saturating_add(response_timeout.0)
}

/// What asking an upstream by its name comes to, with its own policies.
fn worst_of(name: &str, config: &Config, policies: &PoliciesByName, depth: u32) -> Worst {
    let Some(upstream) = config.upstreams.get(name).filter(|_| depth > 0) else {
        return Worst { requests: None, time: None };
    };
    let others = |name: &str| worst_of(name, config, policies, depth - 1);
    let policies = pipeline(&upstream.policies, policies);
    let of_route = ReviewedRoute {
        attempt: attempt(upstream),
        is_grpc: false,
        methods: None,
        max_deadline: None,
    };
    Review::of(&policies, of_route, &others).worst
}

/// `route /: at most 3 requests for one, 33s to the response head; 64KiB of the request body kept`.
impl fmt::Display for RouteReview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Worst { requests, time } = self.review.worst;
        write!(f, "route {}: ", self.name)?;
        match requests {
            Some(1) => f.write_str("1 request for one")?,
            Some(requests) => write!(f, "at most {requests} requests for one")?,
            None => f.write_str("no bound on requests for one")?,
        }
        match time {
            Some(time) => write!(f, ", {} to the response head", ConfigDuration(time))?,
            None => f.write_str(", no bound on the time to the response head")?,
        }
        write!(f, "; {}", self.held())
    }
}

/// See [`RouteReview::explained`].
#[derive(Debug)]
pub struct Explained<'a>(&'a RouteReview);

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(route) = self;
        writeln!(f, "route {}", route.name)?;
        let attempt = Worst { requests: Some(1), time: Some(route.attempt) };
        let policies = route.review.rows.iter().map(|row| (&*row.name, row.worst, &*row.words));
        let rows = policies.chain([(&*route.upstream, attempt, &*route.upstream_words)]);
        let rows: Vec<[String; 4]> = rows
            .enumerate()
            .map(|(depth, (name, Worst { requests, time }, words))| {
                [
                    if depth == 0 {
                        format!("  {name}")
                    } else {
                        format!("  {}└ {name}", "  ".repeat(depth - 1))
                    },
                    requests.map_or("no bound".into(), |requests| requests.to_string()),
                    time.map_or("no bound".into(), |time| ConfigDuration(time).to_string()),
                    words.to_owned(),
                ]
            })
            .collect();
        let head = ["  policy", "requests", "time", ""].map(str::to_owned);
        let width = |column: usize| {
            let cells = rows.iter().chain([&head]).map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        };
        let (names, requests, times) = (width(0), width(1), width(2));
        for [name, request, time, words] in [&head].into_iter().chain(&rows) {
            let line = format!("{name:names$}  {request:>requests$}  {time:>times$}  {words}");
            writeln!(f, "{}", line.trim_end())?;
        }
        write!(f, "  at most, for one request of a client; {}", route.held())
    }
}

/// Each remark once, and the routes that it is about, in words.
pub(crate) fn by_remark(reviews: &[RouteReview]) -> Vec<(&Remark, String)> {
    let mut routes: BTreeMap<&Remark, Vec<&str>> = BTreeMap::new();
    for route in reviews {
        for remark in &route.review.remarks {
            routes.entry(remark).or_default().push(&route.name);
        }
    }
    let words = |routes: Vec<&str>| match routes[..] {
        [route] => format!("route {route}"),
        [first, ..] => format!("{} routes, the first {first}", routes.len()),
        [] => String::new(),
    };
    routes.into_iter().map(|(remark, routes)| (remark, words(routes))).collect()
}
