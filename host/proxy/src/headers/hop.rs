//! A connection from a client, and what upstreams are told of it.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use fusebox_resilience::{Added, ClientCertificate};
use http::{HeaderValue, Version, header};

use super::client_cert::{self, X_FORWARDED_CLIENT_CERT};
use super::forwarded::{
    ForwardedRules, Peer, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO,
};
use super::session_name::SessionName;
use super::via::own_via;
use crate::certificate::ShownCertificate;

const HTTP: HeaderValue = HeaderValue::from_static("http");
const HTTPS: HeaderValue = HeaderValue::from_static("https");

/// What the proxy tells the upstream about the connection from a client.
#[derive(Debug)]
pub struct Hop {
    pub(super) peer: Peer,
    pub(super) rules: Rc<ForwardedRules>,
    /// What most requests of the connection come over.
    pub(super) version: Version,
    /// The headers for requests that have none of them, to the host that was asked for last: most
    /// clients ask for one.
    usual: RefCell<Option<(HeaderValue, Added)>>,
    /// Boxed: few clients have one.
    certificate: Option<Box<HopCertificate>>,
    /// What its requests have to be for. `None`: they may be for any host.
    bound: Option<Box<SessionName>>,
}

/// A client's certificate.
#[derive(Debug)]
struct HopCertificate {
    told: Rc<ClientCertificate>,
    /// What upstreams are told of it.
    element: Option<HeaderValue>,
}

impl Hop {
    /// A connection from a client at this address.
    pub fn new(address: IpAddr, rules: &Rc<ForwardedRules>) -> Self {
        let peer = Peer::new(address, &rules.trusted);
        let (usual, version) = (RefCell::default(), Version::HTTP_11);
        Self { peer, rules: rules.clone(), version, usual, certificate: None, bound: None }
    }

    /// It turns out to be over this version of HTTP.
    pub(crate) fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// The same over TLS, whose client has shown this certificate. Upstreams learn of it if it is
    /// `forwarded`.
    pub(crate) fn secure(&mut self, shown: Option<ShownCertificate>, forwarded: bool) {
        self.peer.secure();
        self.certificate = shown.map(|shown| {
            let element = forwarded.then(|| client_cert::element(&shown));
            Box::new(HopCertificate { told: client_cert::told(&shown).into(), element })
        });
    }

    /// Its requests have to be for this name, which the client has asked for in TLS.
    pub(crate) fn bind(&mut self, name: Option<&str>) {
        self.bound = Some(Box::new(SessionName::new(name)));
    }

    /// Whether a request for this host should have come by another connection.
    pub(crate) fn is_wrong_for(&self, host: &str) -> bool {
        self.bound.as_ref().is_some_and(|name| !name.is_for(host))
    }

    /// The certificate that the client has shown.
    pub fn certificate(&self) -> Option<&Rc<ClientCertificate>> {
        self.certificate.as_ref().map(|certificate| &certificate.told)
    }

    /// The client's address.
    pub fn address(&self) -> IpAddr {
        self.peer.address()
    }

    /// Whether the client is believed.
    pub fn is_trusted(&self) -> bool {
        self.peer.is_trusted()
    }

    pub(super) fn proto(&self) -> HeaderValue {
        if self.peer.is_secure() { HTTPS } else { HTTP }
    }

    /// What upstreams are told of the client's certificate.
    pub(super) fn element(&self) -> Option<&HeaderValue> {
        self.certificate.as_ref()?.element.as_ref()
    }

    /// The headers for a request to this host that has none of them.
    pub(super) fn usual(&self, host: Option<&HeaderValue>) -> Added {
        let Some(host) = host else { return self.own(None) };
        let mut usual = self.usual.borrow_mut();
        match usual.as_ref().filter(|(known, _)| known == host) {
            Some((_, added)) => added.clone(),
            None => {
                // Copied, so that it does not keep the memory of the request.
                let host = HeaderValue::from_bytes(host.as_bytes()).expect("it is one");
                let added = self.own(Some(&host));
                usual.insert((host, added)).1.clone()
            }
        }
    }

    pub(super) fn own(&self, host: Option<&HeaderValue>) -> Added {
        let ForwardedRules { by_x, by_standard, .. } = *self.rules;
        let x_host = host.filter(|_| by_x).cloned();
        let own = [
            Some((header::VIA, own_via(self.version).clone())),
            by_x.then(|| (X_FORWARDED_FOR, self.peer.value())),
            by_x.then(|| (X_FORWARDED_PROTO, self.proto())),
            x_host.map(|host| (X_FORWARDED_HOST, host)),
            by_standard.then(|| (header::FORWARDED, self.peer.element(host))),
            self.element().map(|element| (X_FORWARDED_CLIENT_CERT, element.clone())),
        ];
        own.into_iter().flatten().collect()
    }
}
