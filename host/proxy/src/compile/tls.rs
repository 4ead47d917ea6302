//! What is read for TLS: certificates, their keys, and who is trusted.

use std::sync::Arc;

use fusebox_resilience::config::Problem;

use super::Compilation;
use super::granted::asked_by;
use crate::config::{RouteConfig, RouteUpstream, UpstreamConfig};
use crate::tls::{ListenerTls, UpstreamTls};

impl Compilation<'_> {
    /// Reads the certificates of the listener.
    pub(super) fn listener_tls(&mut self) -> Option<Arc<ListenerTls>> {
        let config = self.config.listener.tls.as_ref()?;
        let path = "listener.tls";
        match ListenerTls::load(config, self.directory) {
            Ok(tls) => {
                for Problem { path: key, message } in tls.warnings() {
                    self.warn(&format!("{path}.{key}"), message);
                }
                Some(Arc::new(tls))
            }
            Err(problems) => {
                self.problems(path, problems);
                None
            }
        }
    }

    /// Reads the certificates of an upstream that speaks TLS.
    pub(super) fn upstream_tls(&mut self, upstream: &UpstreamConfig) -> Option<Arc<UpstreamTls>> {
        if !upstream.is_secure() {
            return None;
        }
        let path = self.place_of(upstream);
        let config = upstream.settings.tls.clone().unwrap_or_default();
        match UpstreamTls::load(&config, upstream.settings.protocol, self.directory) {
            Ok(tls) => {
                for Problem { path: key, message } in tls.warnings() {
                    self.warn(&format!("{path}.tls.{key}"), message);
                }
                Some(Arc::new(tls))
            }
            Err(problems) => {
                self.problems(&format!("{path}.tls"), problems);
                None
            }
        }
    }

    /// Where an upstream is declared: by its name, by the first route whose own it is, or by what a
    /// component is granted.
    fn place_of(&self, upstream: &UpstreamConfig) -> String {
        let is_own = |route: &RouteConfig| match &route.upstream {
            RouteUpstream::Own(own) => **own == *upstream,
            RouteUpstream::Named(_) => false,
        };
        if let Some(name) = &upstream.name {
            return format!("upstreams.{name}");
        }
        if let Some((at, _)) = self.config.routes.iter().find(|(_, route)| is_own(route)) {
            return format!("routes[{at}].upstream");
        }
        let component = asked_by(self.config, upstream);
        component.map_or_else(String::new, |name| format!("components.{name}.grant"))
    }
}
