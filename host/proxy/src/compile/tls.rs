//! What is read for TLS: certificates, their keys, and who is trusted.

use std::sync::Arc;

use fusebox_resilience::config::Problem;
use rustls::ClientConfig;

use super::Compilation;
use crate::config::{
    RouteConfig, RouteUpstream, UpstreamConfig, UpstreamProtocol, UpstreamTlsConfig,
};
use crate::tls::{ListenerTls, Offer, UpstreamTls};

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

    /// How components ask hosts over TLS, if any may: those are believed whom the system trusts.
    pub(super) fn component_tls(&mut self) -> Option<Arc<ClientConfig>> {
        let mut components = self.config.components.iter();
        let (name, _) = components.find(|(_, component)| component.asks_over_tls())?;
        let (config, protocol) = (UpstreamTlsConfig::default(), UpstreamProtocol::Http1);
        match UpstreamTls::load(&config, protocol, self.directory) {
            Ok(tls) => Some(tls.current(Offer::Http1)),
            Err(problems) => {
                for problem in problems {
                    self.error(&format!("components.{name}.grant"), problem.message);
                }
                None
            }
        }
    }

    /// Where an upstream is declared: by its name, or by the first route whose own it is.
    fn place_of(&self, upstream: &UpstreamConfig) -> String {
        let is_own = |route: &RouteConfig| match &route.upstream {
            RouteUpstream::Own(own) => **own == *upstream,
            RouteUpstream::Named(_) => false,
        };
        let route = || self.config.routes.iter().find(|(_, route)| is_own(route));
        match &upstream.name {
            Some(name) => format!("upstreams.{name}"),
            None => route().map_or_else(String::new, |(at, _)| format!("routes[{at}].upstream")),
        }
    }
}
