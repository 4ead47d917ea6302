//! Routes by host and path, so that finding one costs by the length of the path and not by the
//! number of routes.

use hashbrown::HashMap;
use uncased::{Uncased, UncasedStr};

use super::matching::RouteMatch;

/// Paths by segment, below a host or any host. What routes are called here is their place in a list
/// of them.
#[derive(Debug, Default)]
pub(super) struct Index {
    nodes: Vec<Node>,
    /// Where the paths of a host begin.
    hosts: HashMap<Uncased<'static>, usize>,
    /// Where those of any host do.
    any_host: Option<usize>,
}

/// A path, from its host on.
#[derive(Debug, Default)]
struct Node {
    /// Routes of exactly this prefix, in their order.
    routes: Vec<usize>,
    /// Paths that are one segment longer.
    longer: HashMap<Box<str>, usize>,
}

impl Index {
    /// Of routes in the order in which they are tried.
    pub(super) fn new<'a>(matches: impl Iterator<Item = &'a RouteMatch>) -> Self {
        let mut index = Self::default();
        for (route, matches) in matches.enumerate() {
            let mut node = index.root(matches.host.as_deref());
            for segment in matches.prefix.split('/').skip(1) {
                node = index.longer(node, segment);
            }
            index.nodes[node].routes.push(route);
        }
        index
    }

    fn root(&mut self, host: Option<&str>) -> usize {
        let new = self.nodes.len();
        let root = match host {
            Some(host) => *self.hosts.entry(host.to_owned().into()).or_insert(new),
            None => *self.any_host.get_or_insert(new),
        };
        self.node(root)
    }

    fn longer(&mut self, node: usize, segment: &str) -> usize {
        let new = self.nodes.len();
        let longer = *self.nodes[node].longer.entry(segment.into()).or_insert(new);
        self.node(longer)
    }

    /// Makes it, if it is the next to be made.
    fn node(&mut self, node: usize) -> usize {
        if node == self.nodes.len() {
            self.nodes.push(Node::default());
        }
        node
    }

    /// The first route in their order that is of this host and path, and `takes` the rest of the
    /// request.
    pub(super) fn find(
        &self,
        host: &str,
        path: &str,
        takes: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let of_host = self.hosts.get(UncasedStr::new(host)).copied();
        of_host.into_iter().chain(self.any_host).find_map(|root| self.longest(root, path, &takes))
    }

    /// Goes down the path for as long as there are routes, however long the path is.
    fn longest(&self, root: usize, path: &str, takes: &impl Fn(usize) -> bool) -> Option<usize> {
        let mut segments = path.split('/');
        // `*` is below no path.
        if segments.next() != Some("") {
            return None;
        }
        let mut node = &self.nodes[root];
        let mut found = None;
        loop {
            found = node.routes.iter().copied().find(|route| takes(*route)).or(found);
            match segments.next().and_then(|segment| node.longer.get(segment)) {
                Some(longer) => node = &self.nodes[*longer],
                None => return found,
            }
        }
    }
}
