//! `[[routes]]`.

use std::collections::BTreeSet;

use fusebox_resilience::PriorityClass;
use fusebox_resilience::config::{ConfigDuration, ConfigSize};
use http::Method;

use super::table::{Keys, Reader, table};
use super::tables::SHORTEST;
use super::upstream::RouteUpstream;
use super::values;

table! {
    /// A route: which requests it takes, and where they go.
    #[derive(Clone, Debug)]
    pub struct RouteConfig {
        /// The prefix of the paths that it takes, at `/` boundaries.
        pub path: String = parsed_or(values::path, "/".to_owned()),
        /// The host that it takes, without port. Default: any.
        pub host: Option<String> = parsed(values::host),
        /// The methods that it takes. Default: any.
        pub methods: Option<Vec<Method>> = methods(),
        /// Names of the clients that it takes, one of which the certificate that a client has shown
        /// has to have. Default: any, and those that have shown none.
        pub client_certificate: Option<Vec<String>> = client_certificate(),
        /// Its name in log, metrics and for components. Default: made from what it takes.
        pub name: Option<String> = parsed(values::route_name),
        /// The upstream of its requests.
        pub upstream: RouteUpstream = upstream(),
        /// Names of policies, outermost first.
        pub policies: Vec<String> = policies(),
        /// How much of a request body is kept to send it again. 0: a request with a body gets one
        /// attempt.
        pub max_replay_body: ConfigSize = at_most(ConfigSize::kib(64), ConfigSize::mib(16)),
        /// Whether its requests are calls by gRPC: their outcome is `grpc-status`, and
        /// `grpc-timeout` is obeyed.
        pub grpc: bool = or(false),
        /// How long nothing may move in a call by gRPC over HTTP/2, in either direction.
        pub grpc_idle_timeout: ConfigDuration =
            at_least(ConfigDuration::from_secs(3600), SHORTEST),
        /// The protocols that a connection may switch to, by their names. Default: none.
        pub upgrades: Vec<String> = upgrades(),
        /// How long nothing may move in a connection that has switched.
        pub tunnel_idle_timeout: ConfigDuration =
            at_least(ConfigDuration::from_secs(3600), SHORTEST),
        /// How important its requests are, whatever is said of them. Default: what is said.
        pub priority: Option<PriorityClass> = optional(),
    }
}

impl Keys<'_, '_> {
    fn methods(&mut self, key: &str) -> Option<Option<Vec<Method>>> {
        self.refuse_empty(key);
        self.list(key, values::method)
    }

    fn client_certificate(&mut self, key: &str) -> Option<Option<Vec<String>>> {
        self.refuse_empty(key);
        self.list(key, values::certificate_name)
    }

    fn refuse_empty(&mut self, key: &str) {
        let path = self.path_of(key);
        if self.is_there(key) && self.reader.document.length(&path, "a list") == Ok(0) {
            self.reader.error(&path, "an empty list takes no request; leave it out to take any");
        }
    }

    fn upgrades(&mut self, key: &str) -> Option<Vec<String>> {
        Some(self.list(key, values::upgrade)?.unwrap_or_default())
    }

    fn policies(&mut self, key: &str) -> Option<Vec<String>> {
        let path = self.path_of(key);
        Some(self.reader.policy_names(&path).unwrap_or_default())
    }

    fn upstream(&mut self, key: &str) -> Option<RouteUpstream> {
        let path = self.path_of(key);
        RouteUpstream::read(self.reader, &path)
    }
}

impl Reader<'_> {
    /// A list of policies, each once. `None`: it is not there, or is no list.
    pub(super) fn policy_names(&mut self, path: &str) -> Option<Vec<String>> {
        let places = self.document.places();
        let mut before = BTreeSet::new();
        self.list(path, |name| {
            places.look_up("policies", "policy", name)?;
            if !before.insert(name.to_owned()) {
                return Err(format!("`{name}` is in the list twice"));
            }
            Ok(name.to_owned())
        })
    }
}
