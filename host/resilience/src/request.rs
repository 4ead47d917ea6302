//! Who asks for what, and since when: the part of a call that events speak of, and that may outlive
//! the call.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, header, request};
use tokio::time::Instant;

use crate::clock;
use crate::priority::PriorityLevel;

/// Headers that are the same for many requests. Looking at a shared list costs less than putting it
/// into the map of each request.
pub type Added = Rc<[(HeaderName, HeaderValue)]>;

/// What a client's certificate says, which has been verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its subject, as in `CN=a,O=Example` (RFC 4514).
    pub subject: String,
    /// Other names of the subject, each with its kind, as in `DNS:a.example`.
    pub names: Vec<String>,
}

/// A client's request without its body, as every attempt sends it.
#[derive(Debug)]
pub struct Request {
    id: HeaderValue,
    /// The header in which each attempt sends the id.
    id_name: Option<&'static HeaderName>,
    route: Arc<str>,
    head: request::Parts,
    /// Its path as routes read it, if it is spelled otherwise.
    read_path: Option<Box<str>>,
    added: Option<Added>,
    client: Option<Rc<str>>,
    certificate: Option<Rc<ClientCertificate>>,
    level: Option<PriorityLevel>,
    /// For how long nothing may move in a call by gRPC. `None`: it is none.
    grpc_idle_timeout: Option<Duration>,
    started: Instant,
    started_at: SystemTime,
    deadline: Option<Instant>,
}

impl Request {
    /// A request that arrives now.
    ///
    /// `id` is text, `head` is what each attempt sends, and `started_at` is the wall clock's time,
    /// against which dates in `Retry-After` are read.
    pub fn new(
        id: HeaderValue,
        route: Arc<str>,
        head: request::Parts,
        started_at: SystemTime,
    ) -> Self {
        Self {
            id,
            id_name: None,
            route,
            head,
            read_path: None,
            added: None,
            client: None,
            certificate: None,
            level: None,
            grpc_idle_timeout: None,
            started: clock::now(),
            started_at,
            deadline: None,
        }
    }

    /// The same request once more, for a run that outlives its call.
    pub(crate) fn again(&self) -> Self {
        Self {
            id: self.id.clone(),
            id_name: self.id_name,
            route: self.route.clone(),
            head: self.head.clone(),
            read_path: self.read_path.clone(),
            added: self.added.clone(),
            client: self.client.clone(),
            certificate: self.certificate.clone(),
            started: self.started,
            started_at: self.started_at,
            level: self.level,
            grpc_idle_timeout: self.grpc_idle_timeout,
            // Nobody waits for it.
            deadline: None,
        }
    }

    /// Each attempt sends these headers too, none of which is in `head`.
    ///
    /// It and [`set_client`](Self::set_client) take the request where it is: to hand it on and back
    /// would move it twice.
    pub fn set_added(&mut self, added: Option<Added>) {
        self.added = added;
    }

    /// Its path is spelled otherwise than routes read it: decoded, with nothing but `/` between
    /// segments. It is sent as it came; keys are made of what was read, as the route was chosen.
    pub fn set_read_path(&mut self, path: Box<str>) {
        self.read_path = Some(path);
    }

    /// Its path as routes read it; `None`: as it is spelled.
    pub(crate) fn read_path(&self) -> Option<&str> {
        self.read_path.as_deref()
    }

    /// Each attempt sends the request id in this header, which is not in `head`. To send it from
    /// where it is costs less than to put it into the map.
    pub fn set_id_name(&mut self, name: &'static HeaderName) {
        self.id_name = Some(name);
    }

    /// It comes from the client at this address.
    pub fn set_client(&mut self, address: Rc<str>) {
        self.client = Some(address);
    }

    /// The client has shown this certificate.
    pub fn set_certificate(&mut self, certificate: Rc<ClientCertificate>) {
        self.certificate = Some(certificate);
    }

    /// It is this important.
    pub fn set_level(&mut self, level: Option<PriorityLevel>) {
        self.level = level;
    }

    /// It is a call by gRPC, whose outcome is its `grpc-status`. For so long nothing may move in
    /// it, in either direction.
    pub fn set_grpc(&mut self, idle_timeout: Duration) {
        self.grpc_idle_timeout = Some(idle_timeout);
    }

    /// Whether it is a call by gRPC, whose outcome is its `grpc-status`.
    pub fn is_grpc(&self) -> bool {
        self.grpc_idle_timeout.is_some()
    }

    /// For how long nothing may move in a call by gRPC; `None`: it is none.
    pub fn grpc_idle_timeout(&self) -> Option<Duration> {
        self.grpc_idle_timeout
    }

    /// Nobody waits for an answer that comes more than so long after its arrival.
    pub fn set_deadline(&mut self, after: Duration) {
        self.deadline = self.started.checked_add(after);
    }

    /// Until when somebody waits for an answer, if the client or the configuration says so. It
    /// does not stand still while the client is waited for, as limits do.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The same, as if it had arrived `elapsed` ago: for trying out a component.
    #[must_use]
    pub fn arrived(mut self, elapsed: Duration) -> Self {
        self.started = self.started.checked_sub(elapsed).unwrap_or(self.started);
        self
    }

    /// The request id, which every log line about this request carries.
    pub fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    /// The request id as a header's value.
    pub fn id_header(&self) -> &HeaderValue {
        &self.id
    }

    /// The name of the route that it took.
    pub fn route(&self) -> &Arc<str> {
        &self.route
    }

    /// Method and target, and the headers that are not shared with other requests.
    pub fn head(&self) -> &request::Parts {
        &self.head
    }

    /// All headers that every attempt sends.
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let added = self.added.iter().flat_map(|added| added.iter());
        let id = self.id_name.map(|name| (name, &self.id));
        self.head.headers.iter().chain(added.map(|(name, value)| (name, value))).chain(id)
    }

    /// The first header with this name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&HeaderValue> {
        let is_meant = |other: &HeaderName| other.as_str().eq_ignore_ascii_case(name);
        let added = || {
            let mut added = self.added.as_ref()?.iter();
            added.find(|(added, _)| is_meant(added)).map(|(_, value)| value)
        };
        let id = || self.id_name.filter(|name| is_meant(name)).map(|_| &self.id);
        self.head.headers.get(name).or_else(added).or_else(id)
    }

    /// Whether it may come to the upstream twice: its method is idempotent (RFC 9110, section
    /// 9.2.2, and QUERY of RFC 10008), or it has a key by which the upstream knows it again.
    pub fn is_idempotent(&self) -> bool {
        self.head.method.is_idempotent() || self.has_idempotency_key()
    }

    /// Whether it carries `Idempotency-Key`.
    pub fn has_idempotency_key(&self) -> bool {
        self.head.headers.contains_key("idempotency-key")
    }

    /// Whether it asks for another protocol on its connection.
    pub fn is_upgrade(&self) -> bool {
        self.head.headers.contains_key(header::UPGRADE)
    }

    /// The client's address; empty if it is not known.
    pub fn client_address(&self) -> &str {
        self.client.as_deref().unwrap_or_default()
    }

    /// The certificate that the client has shown.
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.as_deref()
    }

    /// How important it is; `None`: nobody asks.
    pub fn level(&self) -> Option<PriorityLevel> {
        self.level
    }

    /// Replaces what the client says in this header.
    pub fn set_header(&mut self, name: &HeaderName, value: HeaderValue) {
        self.head.headers.insert(name, value);
    }

    /// Takes the header map, whose memory another request can use.
    pub fn take_headers(&mut self) -> HeaderMap {
        std::mem::take(&mut self.head.headers)
    }

    /// When it arrived.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// When it arrived, by the wall clock.
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// The time since it arrived.
    pub fn elapsed(&self) -> Duration {
        clock::now() - self.started
    }

    /// The wall clock's time, derived from that of the arrival: within one request it never goes
    /// back.
    pub fn wall_clock(&self) -> SystemTime {
        self.started_at + self.elapsed()
    }
}
