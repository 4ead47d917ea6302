//! Which pipeline and upstream a request gets: by host, then the longest path prefix, then the
//! client's certificate, then methods.
//!
//! If the most specific route by host and path does not take the client or the method, the next one
//! is tried, and so on.

mod index;
mod matching;
pub(crate) mod path;

pub use matching::{Claim, RouteMatch};

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::{CallKey, ClientCertificate, Pipeline, PriorityClass, ReplayLimit};
use http::Method;

use crate::priority::PriorityRules;
use crate::tls::UpstreamTls;
use crate::upstream::shared::SharedUpstream;
use index::Index;

/// Up to this many routes, trying one after the other is faster than the index.
const FEW: usize = 16;

/// A route: where requests go, and through which policies.
#[derive(Debug)]
pub struct Route {
    /// Its name in log, metrics and for components.
    pub name: Arc<str>,
    /// Which requests it takes.
    pub matches: RouteMatch,
    /// Its policies.
    pub pipeline: Pipeline,
    /// Its upstream: an index into [`RouteTable::upstreams`].
    pub upstream: usize,
    /// How much of a request body is kept to send it again.
    pub replay_limit: ReplayLimit,
    /// Whether its requests are calls by gRPC.
    pub is_grpc: bool,
    /// How long nothing may move in those, in either direction.
    pub grpc_idle_timeout: Duration,
    /// The names of the protocols that connections may switch to.
    pub upgrades: Vec<String>,
    /// How long nothing may move in one that has switched.
    pub tunnel_idle_timeout: Duration,
    /// How important its requests are, whatever is said of them.
    pub priority: Option<PriorityClass>,
}

/// An upstream that fallbacks ask.
#[derive(Clone, Debug)]
pub struct OtherUpstream {
    /// Its name in the file.
    pub name: Arc<str>,
    /// The policies that calls pass which come to it by a fallback.
    pub pipeline: Pipeline,
    /// An index into [`RouteTable::upstreams`].
    pub upstream: usize,
}

/// All routes.
#[derive(Debug)]
pub struct RouteTable {
    /// The most specific first.
    routes: Box<[Route]>,
    /// `None`: there are few routes.
    index: Option<Index>,
    upstreams: Box<[Arc<SharedUpstream>]>,
    /// `None`: nobody asks how important requests are.
    priority: Option<PriorityRules>,
    others: Box<[OtherUpstream]>,
    /// What components are granted, with the places of the upstreams behind it.
    granted: Box<[(Arc<str>, usize)]>,
}

impl RouteTable {
    /// A table of routes that take different requests.
    pub fn new(
        mut routes: Vec<Route>,
        upstreams: Vec<SharedUpstream>,
        priority: Option<PriorityRules>,
    ) -> Self {
        routes.sort_by_key(|route| route.matches.rank());
        let index =
            (routes.len() > FEW).then(|| Index::new(routes.iter().map(|route| &route.matches)));
        let upstreams = upstreams.into_iter().map(Arc::new);
        let (upstreams, others, granted) = (upstreams.collect(), Box::default(), Box::default());
        Self { routes: routes.into(), index, upstreams, priority, others, granted }
    }

    /// The same with upstreams that fallbacks ask.
    #[must_use]
    pub fn with_others(self, others: Vec<OtherUpstream>) -> Self {
        Self { others: others.into(), ..self }
    }

    /// The same with those whom components may ask.
    #[must_use]
    pub fn with_granted(self, granted: Vec<(Arc<str>, usize)>) -> Self {
        Self { granted: granted.into(), ..self }
    }

    /// TLS of each upstream that speaks it.
    pub fn tls(&self) -> impl Iterator<Item = &Arc<UpstreamTls>> {
        self.upstreams.iter().filter_map(|upstream| upstream.tls.as_ref())
    }

    /// The upstreams that fallbacks ask.
    pub fn others(&self) -> &[OtherUpstream] {
        &self.others
    }

    /// What components are granted, each with an index into [`upstreams`](Self::upstreams).
    pub fn granted(&self) -> &[(Arc<str>, usize)] {
        &self.granted
    }

    /// The upstreams of all routes and fallbacks, and those whom components may ask, each once.
    pub fn upstreams(&self) -> &[Arc<SharedUpstream>] {
        &self.upstreams
    }

    /// How important requests are; `None`: nobody asks.
    pub fn priority(&self) -> Option<&PriorityRules> {
        self.priority.as_ref()
    }

    /// The index of the route that takes a request, in [`routes`](Self::routes). `host` has no
    /// port; the client has shown this certificate.
    pub fn find(
        &self,
        host: &str,
        path: &str,
        method: &Method,
        certificate: Option<&Rc<ClientCertificate>>,
    ) -> Option<usize> {
        let takes_sender = |matches: &RouteMatch| {
            matches.takes_client(certificate) && matches.takes_method(method)
        };
        let Some(index) = &self.index else {
            let takes =
                |route: &Route| route.matches.takes(host, path) && takes_sender(&route.matches);
            return self.routes.iter().position(takes);
        };
        index.find(host, path, |route| takes_sender(&self.routes[route].matches))
    }

    /// Whether what a request gets, or whose it is, depends on its path.
    pub fn depend_on_paths(&self) -> bool {
        let mut upstreams = self.upstreams.iter().map(|upstream| &upstream.config);
        let of_routes = self.routes.iter().map(|route| &route.pipeline);
        let pipelines = of_routes.chain(self.others.iter().map(|other| &other.pipeline));
        let keys = pipelines.flat_map(Pipeline::policies).filter_map(|policy| policy.key());
        let user = self.priority.as_ref().and_then(PriorityRules::user);
        self.routes.iter().any(|route| route.matches.path() != "/")
            || upstreams.any(|upstream| upstream.has_base() || upstream.fleet.balance.reads_path())
            || keys.chain(user).any(CallKey::reads_path)
    }

    /// The routes, the most specific first.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first<'a>(
        matches: &'a [RouteMatch],
        host: &str,
        path: &str,
        method: Method,
    ) -> Option<String> {
        let mut matches: Vec<&'a RouteMatch> = matches.iter().collect();
        matches.sort_by_key(|it| it.rank());
        let takes = |it: &&&RouteMatch| it.takes(host, path) && it.takes_method(&method);
        matches.iter().find(takes).map(ToString::to_string)
    }

    #[test]
    fn host_then_longest_prefix_then_methods() {
        let matches = [
            RouteMatch::new(None, "/", None),
            RouteMatch::new(None, "/orders", None),
            RouteMatch::new(None, "/orders/", Some(vec![Method::POST])),
            RouteMatch::new(None, "/orders/open", None),
            RouteMatch::new(Some("B.example"), "/", None),
        ];
        let take = |host, path, method| first(&matches, host, path, method).unwrap();
        assert_eq!(take("a.example", "/orders/7", Method::GET), "/orders");
        assert_eq!(take("a.example", "/orders", Method::POST), "POST /orders");
        assert_eq!(take("a.example", "/orders/open/1", Method::POST), "/orders/open");
        assert_eq!(take("a.example", "/ordersopen", Method::GET), "/");
        assert_eq!(take("b.EXAMPLE", "/orders", Method::GET), "b.example/");
    }

    #[test]
    fn nothing_takes_a_request_that_no_route_wants() {
        let matches = [RouteMatch::new(Some("b.example"), "/api", Some(vec![Method::GET]))];
        assert_eq!(first(&matches, "b.example", "/", Method::GET), None);
        assert_eq!(first(&matches, "b.example", "/api", Method::PUT), None);
        assert_eq!(first(&matches, "c.example", "/api", Method::GET), None);
    }

    #[test]
    fn routes_claim_the_same_when_neither_comes_first() {
        let collide = |a: &RouteMatch, b: &RouteMatch| {
            a.claims().any(|claim| b.claims().any(|other| claim == other))
        };
        let any = RouteMatch::new(None, "/a", None);
        let get = RouteMatch::new(None, "/a/", Some(vec![Method::GET, Method::HEAD]));
        assert!(collide(&any, &RouteMatch::new(None, "/a/", None)));
        assert!(collide(&get, &RouteMatch::new(None, "/a", Some(vec![Method::HEAD]))));
        assert!(!collide(&get, &RouteMatch::new(None, "/a", Some(vec![Method::PUT]))));
        assert!(!collide(&any, &get));
        assert!(!collide(&any, &RouteMatch::new(Some("b"), "/a", None)));
        let of = |names: &[&str]| {
            let names = names.iter().map(|&name| name.to_owned()).collect();
            RouteMatch::new(None, "/a", None).of_clients(Some(names))
        };
        assert!(collide(&of(&["CN=a", "CN=b"]), &of(&["CN=b"])));
        assert!(!collide(&of(&["CN=a"]), &of(&["CN=b"])));
        assert!(!collide(&of(&["CN=a"]), &any));
        assert!(collide(
            &RouteMatch::new(Some("B"), "/", None),
            &RouteMatch::new(Some("b"), "/", None)
        ));
    }

    fn methods() -> impl Strategy<Value = Option<Vec<Method>>> {
        let method = prop::sample::select(vec![Method::GET, Method::POST, Method::PUT]);
        prop::option::of(prop::collection::vec(method, 0..3))
    }

    proptest! {
        /// Few letters, so that routes and requests match often.
        #[test]
        fn the_index_finds_what_asking_one_after_the_other_finds(
            routes in prop::collection::vec(
                (prop::option::of("[aB](\\.c)?"), "(/[ab]{0,2}){1,4}", methods()),
                0..40,
            ),
            requests in prop::collection::vec(
                (
                    "([Ab](\\.C)?)?",
                    "((/[ab]{0,2}){0,6})|\\*|[ab/]{0,4}",
                    prop::sample::select(vec!["GET", "POST", "PUT", "X"]),
                ),
                0..40,
            ),
        ) {
            let matches = routes.iter().map(|(host, path, methods)| {
                RouteMatch::new(host.as_deref(), path, methods.clone())
            });
            let mut matches: Vec<_> = matches.collect();
            matches.sort_by_key(RouteMatch::rank);
            let index = Index::new(matches.iter());
            for (host, path, method) in requests {
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                let takes = |it: &RouteMatch| it.takes(&host, &path) && it.takes_method(&method);
                let plain = matches.iter().position(takes);
                let found = index.find(&host, &path, |route| matches[route].takes_method(&method));
                prop_assert_eq!(found, plain, "{} {}{}", method, host, path);
            }
        }
    }
}
