//! An index of routes by host and path: the cost of finding a route depends on the length of the
//! path, not on the number of routes.

use hashbrown::HashMap;
use uncased::{Uncased, UncasedStr};

use super::matching::RouteMatch;

/// A tree of paths by segment, for each host and for any host. Routes are numbers: their places in
/// the list that the index was made from.
#[derive(Debug, Default)]
pub(super) struct Index {
    nodes: Vec<Node>,
    /// The roots of the trees of hosts.
    hosts: HashMap<Uncased<'static>, usize>,
    /// The root of the tree for any host.
    any_host: Option<usize>,
}

/// A path below a host.
#[derive(Debug, Default)]
struct Node {
    /// Routes with exactly this prefix, in their order.
    routes: Vec<usize>,
    /// Paths with one segment more.
    longer: HashMap<Box<str>, usize>,
}

impl Index {
    /// An index of routes in the order in which they are tried.
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

    /// Makes the node if it does not exist yet.
    fn node(&mut self, node: usize) -> usize {
        if node == self.nodes.len() {
            self.nodes.push(Node::default());
        }
        node
    }

    /// The first route in their order with this host and path that `takes` the rest of the request.
    pub(super) fn find(
        &self,
        host: &str,
        path: &str,
        takes: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let of_host = self.hosts.get(UncasedStr::new(host)).copied();
        of_host.into_iter().chain(self.any_host).find_map(|root| self.longest(root, path, &takes))
    }

    /// Follows the path as long as there are routes below, however long the path is.
    fn longest(&self, root: usize, path: &str, takes: &impl Fn(usize) -> bool) -> Option<usize> {
        let mut segments = path.split('/');
        // The target `*` is below no path.
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
