//! Which pipeline and upstream a request gets: by host, then the longest path prefix, then methods.

use std::fmt;
use std::sync::Arc;

use fusebox_resilience::Pipeline;
use http::Method;

use crate::upstream::Target;

/// Where requests of one kind go, and through which policies.
#[derive(Debug)]
pub struct Route {
    /// Its name in log, metrics and for guests.
    pub name: Arc<str>,
    /// What it takes.
    pub matches: RouteMatch,
    /// Its policies.
    pub pipeline: Pipeline,
    /// Where its requests go: the place in [`RouteTable::targets`].
    pub upstream: usize,
    /// How much of a request body is kept for replay, in bytes; 0 if none of its policies asks twice.
    pub replay_limit: usize,
}

/// What a route takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteMatch {
    /// In lower case, without port. None: any.
    host: Option<Box<str>>,
    /// Without a slash at its end, so empty for all paths.
    prefix: Box<str>,
    /// None: any.
    methods: Option<Vec<Method>>,
}

impl RouteMatch {
    /// Takes `host` (any if none), paths below `path`, and `methods` (any if none).
    pub fn new(host: Option<&str>, path: &str, methods: Option<Vec<Method>>) -> Self {
        Self {
            host: host.map(|host| host.to_ascii_lowercase().into()),
            prefix: path.trim_end_matches('/').into(),
            methods,
        }
    }

    /// Whether some request would be taken by both, and neither comes first.
    pub fn collides_with(&self, other: &Self) -> bool {
        let methods_collide = match (&self.methods, &other.methods) {
            (None, None) => true,
            (Some(these), Some(those)) => these.iter().any(|method| those.contains(method)),
            // The one with methods comes first.
            _ => false,
        };
        self.host == other.host && self.prefix == other.prefix && methods_collide
    }

    fn takes(&self, host: &str, path: &str, method: &Method) -> bool {
        self.host.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(host))
            && path.strip_prefix(&*self.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            && self.methods.as_ref().is_none_or(|methods| methods.contains(method))
    }

    /// The order in which routes are tried: the more particular first.
    fn rank(&self) -> impl Ord + use<> {
        (self.host.is_none(), usize::MAX - self.prefix.len(), self.methods.is_none())
    }

    /// The path that it takes, as a configuration would say it.
    pub fn path(&self) -> &str {
        if self.prefix.is_empty() { "/" } else { &self.prefix }
    }
}

impl fmt::Display for RouteMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(methods) = &self.methods {
            for (index, method) in methods.iter().enumerate() {
                write!(f, "{}{method}", if index > 0 { "," } else { "" })?;
            }
            f.write_str(" ")?;
        }
        write!(f, "{}{}", self.host.as_deref().unwrap_or_default(), self.path())
    }
}

/// All routes.
#[derive(Debug)]
pub struct RouteTable {
    /// The more particular first.
    routes: Box<[Route]>,
    targets: Box<[Arc<Target>]>,
}

impl RouteTable {
    /// A table of routes of which no two collide.
    pub fn new(mut routes: Vec<Route>, targets: Vec<Arc<Target>>) -> Self {
        routes.sort_by_key(|route| route.matches.rank());
        Self { routes: routes.into(), targets: targets.into() }
    }

    /// The upstreams of all routes, each once.
    pub fn targets(&self) -> &[Arc<Target>] {
        &self.targets
    }

    /// The route that takes a request. `host` is without port.
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Option<&Route> {
        self.routes.iter().find(|route| route.matches.takes(host, path, method))
    }

    /// Its routes, the more particular first.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first<'a>(matches: &'a [RouteMatch], host: &str, path: &str, method: Method) -> Option<String> {
        let mut matches: Vec<&'a RouteMatch> = matches.iter().collect();
        matches.sort_by_key(|it| it.rank());
        matches.iter().find(|it| it.takes(host, path, &method)).map(ToString::to_string)
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
    fn routes_collide_when_neither_comes_first() {
        let any = RouteMatch::new(None, "/a", None);
        let get = RouteMatch::new(None, "/a/", Some(vec![Method::GET, Method::HEAD]));
        assert!(any.collides_with(&RouteMatch::new(None, "/a/", None)));
        assert!(get.collides_with(&RouteMatch::new(None, "/a", Some(vec![Method::HEAD]))));
        assert!(!any.collides_with(&get));
        assert!(!any.collides_with(&RouteMatch::new(Some("b"), "/a", None)));
    }
}
