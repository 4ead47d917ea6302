//! Handles one request: finds its route, makes a call, runs the pipeline, replies.

mod body;
mod host;
mod in_flight;
mod last_hop;
mod open_tunnel;
mod request_id;
mod response;

pub(crate) use body::ClientBody;
pub(crate) use in_flight::CallPlaces;
pub(crate) use open_tunnel::OpenTunnel;
pub(crate) use response::ClientResponse;

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fusebox_http1::RequestHead;
use fusebox_resilience::{
    Background, Call, CallEvent, ConnectionEvent, ConnectionLimit, Error, ErrorKind,
    HandshakeFailure, Http2Fault, Observers, Random, ReplayMemory, Request as ClientRequest,
    RequestBody, RequestFlaw, ResponseBody, Scope, ServerEvent, WayOut, Worker, clock, is_grpc,
};
use http::{HeaderMap, HeaderValue, Request, StatusCode, request};
use http_body::Body;
use rustls::{HandshakeKind, ProtocolVersion, ServerConnection};

use crate::buffers::Buffers;
use crate::config::{ListenerConfig, PathRule};
use crate::deadline::{ClientDeadline, DeadlineHeader};
use crate::headers::{self, Forwarding, Hop, TakesTrailers};
use crate::observe::{NO_ROUTE, wall_clock};
use crate::reply::{Refusal, Unread};
use crate::route::RouteTable;
use crate::route::path::{canonical, has_dot_segment};
use crate::seldom::Seldom;
use crate::upstream::granted::way_out;
use crate::upstream::reached::ReachedUpstream;
use crate::upstream::{HttpUpstream, WorkerShare};
use body::{ClientRequestBody, OngoingCall};
use host::Hosts;
use in_flight::{CallPlace, CallPlacesHandle};
use last_hop::{LastHop, NoUpstream};
use request_id::RequestIds;

/// When a client may come back for whose call there is no place: others may end in the next moment.
const BUSY: Duration = Duration::from_secs(1);

/// Handles the requests of one worker.
#[derive(Debug)]
pub(crate) struct RequestHandler {
    routes: Arc<RouteTable>,
    /// One for each upstream of the route table, in its order.
    upstreams: Box<[HttpUpstream]>,
    /// Route names by index. Each worker has its own `Arc`s: cloning a shared one per call would
    /// make the workers contend on one reference count.
    names: Box<[Arc<str>]>,
    worker: Rc<Worker>,
    max_body: u64,
    retry_after_jitter: f64,
    no_route: Arc<str>,
    request_ids: RequestIds,
    hosts: Hosts,
    /// Whether paths are read however they are spelled, and those with dot segments are refused.
    is_strict: bool,
    replay_memory: Rc<ReplayMemory>,
    deadline_headers: Vec<DeadlineHeader>,
    max_deadline: Option<Duration>,
    /// Of clients that say where their requests come from and are not trusted.
    claims: Seldom,
    /// Of what is no request.
    refusals: Seldom,
    /// Of handshakes that fail.
    handshakes_failed: Seldom,
    /// Of those that have to wait.
    handshakes_full: Seldom,
    /// Of calls too many.
    turned_away: Seldom,
    /// Of connections that a limit has ended, by limit.
    ends: [Seldom; ConnectionLimit::ALL.len()],
    /// Of streams, likewise.
    stream_ends: [Seldom; ConnectionLimit::ALL.len()],
    /// Of requests whose streams were reset.
    stream_refusals: Seldom,
    /// Of connections that ended for what the client did.
    http2_faults: [Seldom; Http2Fault::ALL.len()],
    buffers: Rc<Buffers>,
    /// `None`: there may be any number of calls.
    places: Option<Rc<CallPlacesHandle>>,
}

/// A request that was taken on.
#[derive(Debug)]
pub(crate) struct Begun {
    ongoing: OngoingCall,
    /// The place of its route, or why it goes nowhere.
    admitted: Result<usize, NoUpstream>,
}

impl Begun {
    /// For how long nothing may move in a call by gRPC; `None`: it is none.
    pub(crate) fn grpc_idle_timeout(&self) -> Option<Duration> {
        self.ongoing.call().request().grpc_idle_timeout()
    }
}

impl RequestHandler {
    /// A handler with its own upstreams, not yet connected. It has a worker's share of what is
    /// limited for all of them.
    pub(crate) fn new(
        routes: Arc<RouteTable>,
        limits: &ListenerConfig,
        places: Option<Arc<CallPlaces>>,
        share: WorkerShare,
        observers: Observers,
        background: impl Background + 'static,
    ) -> Self {
        let buffers = Rc::<Buffers>::default();
        let upstreams = routes.upstreams().iter();
        let upstreams: Box<[_]> = upstreams
            .map(|upstream| HttpUpstream::new(upstream.clone(), share, &buffers))
            .collect();
        let way_out = way_out(&routes, &upstreams, &observers);
        let worker = Worker::new(observers, Random::with_seed(fastrand::u64(..)))
            .with_background(background)
            .with_spare_headers(buffers.spare_headers().clone());
        let worker = match way_out {
            Some(way_out) => worker.with_way_out(Rc::new(way_out)),
            None => worker,
        };
        Self {
            upstreams,
            names: routes.routes().iter().map(|route| Arc::from(&*route.name)).collect(),
            is_strict: limits.paths == PathRule::Strict && routes.depend_on_paths(),
            replay_memory: ReplayMemory::new(limits.max_replay_memory.in_memory() / share.workers)
                .into(),
            deadline_headers: limits.deadline_headers.clone(),
            max_deadline: limits.max_deadline.map(|limit| limit.0),
            claims: Seldom::default(),
            refusals: Seldom::default(),
            handshakes_failed: Seldom::default(),
            handshakes_full: Seldom::default(),
            turned_away: Seldom::default(),
            ends: Default::default(),
            stream_ends: Default::default(),
            stream_refusals: Seldom::default(),
            http2_faults: Default::default(),
            routes,
            worker: worker.into(),
            max_body: limits.max_body.0,
            retry_after_jitter: limits.retry_after_jitter,
            no_route: NO_ROUTE.into(),
            request_ids: RequestIds::default(),
            hosts: Hosts::default(),
            buffers,
            places: places.map(CallPlacesHandle::new),
        }
    }

    /// Closes upstream connections that have been unused for too long, and keeps less of what
    /// nobody uses.
    pub(crate) fn reap(&self) {
        self.upstreams.iter().for_each(HttpUpstream::reap);
        self.worker.timers().thin_out();
        if let Some(way_out) = WayOut::of(&self.worker) {
            way_out.worker().timers().thin_out();
        }
        self.buffers.thin_out();
    }

    /// What is dropped from now on has not come to an end of its own: the process ends.
    pub(crate) fn cut_calls(&self) {
        self.worker.cut_calls();
    }

    /// Chance, of the worker.
    pub(crate) fn random(&self) -> &Random {
        self.worker.random()
    }

    /// Whether any route lets its clients switch to another protocol.
    pub(crate) fn takes_tunnels(&self) -> bool {
        self.routes.routes().iter().any(|route| !route.upgrades.is_empty())
    }

    /// The buffers of the worker.
    pub(crate) fn buffers(&self) -> &Rc<Buffers> {
        &self.buffers
    }

    /// Takes a request on: it is logged from here on, whatever becomes of it.
    pub(crate) fn begin<B>(&self, head: RequestHead, incoming: Option<B>, hop: &Hop) -> Begun
    where
        B: Body<Data = Bytes, Error = Error> + Unpin + 'static,
    {
        let mut head = parts(head);
        let id = self.request_id(&mut head.headers);
        let host = self.hosts.canonical(&mut head);
        let path = head.uri.path();
        let path = if self.is_strict { canonical(path) } else { path.into() };
        let place = host
            .as_deref()
            .and_then(|host| self.routes.find(host, &path, &head.method, hop.certificate()));
        let read_path = match path {
            Cow::Borrowed(_) => None,
            Cow::Owned(path) => Some(path.into_boxed_str()),
        };
        let route = place.map(|place| &self.routes.routes()[place]);
        let upgrade = route
            .filter(|route| !route.upgrades.is_empty())
            .and_then(|route| headers::wanted_upgrade(&head, &route.upgrades));
        let wants_tunnel = headers::is_extended_connect(&head);
        let last_hop = LastHop::reached(&mut head);

        let Forwarding { added, client, flaw, takes_trailers, is_first_claim } =
            headers::forward_request(&mut head.headers, head.version, hop);
        let gets_none = wants_tunnel && route.is_some() && upgrade.is_none();
        if let Some(wanted) = upgrade {
            headers::ask_for_upgrade(&mut head.headers, wanted, head.version);
        }
        if takes_trailers {
            head.extensions.insert(TakesTrailers);
        }
        let length = incoming.as_ref().map_or(0, |body| body.size_hint().lower());
        let is_wrong = host.as_deref().is_some_and(|host| hop.is_wrong_for(host));
        let flaw = flaw
            .or(last_hop.as_ref().err().copied())
            .or(is_wrong.then_some(RequestFlaw::Misdirected))
            .or(gets_none.then_some(RequestFlaw::Tunnel));
        let admitted = self.admit(&host, flaw, place, &head, length);
        let admitted = match last_hop {
            Ok(Some(last_hop)) => Err(last_hop.answer(admitted)),
            _ => admitted.map_err(NoUpstream::from),
        };
        let name = place.map_or(&self.no_route, |place| &self.names[place]).clone();
        let replay_limit = route.map(|route| route.replay_limit).unwrap_or_default();
        let body = incoming.map_or_else(RequestBody::empty, |incoming| {
            let body = ClientRequestBody::new(incoming, self.max_body);
            RequestBody::kept_in(Box::pin(body), replay_limit, &self.replay_memory)
        });
        let grpc = route.filter(|route| route.is_grpc && is_grpc(&head.headers));
        let is_grpc = grpc.is_some();
        let deadline = self.deadline(&head, hop, is_grpc);
        let mut request = ClientRequest::new(id, name, head, wall_clock::now());
        if let Some(after) = deadline.after {
            request.set_deadline(after);
        }
        if let Some(path) = read_path {
            request.set_read_path(path);
        }
        request.set_id_name(&headers::ID_NAME);
        request.set_added(added);
        request.set_client(client);
        if let Some(certificate) = hop.certificate() {
            request.set_certificate(certificate.clone());
        }
        let user = self.routes.priority().and_then(|priority| {
            let of_route = route.and_then(|route| route.priority);
            priority.apply(&mut request, hop.is_trusted(), of_route).map(Box::new)
        });
        if let Some(route) = grpc {
            request.set_grpc(route.grpc_idle_timeout);
        }
        let call = Call::new(request, body, self.worker.clone());
        if call.reporter().wants_details() {
            call.reporter().emit_own(CallEvent::Started);
        }
        if let Some(header) = deadline.invalid {
            let header = header.name();
            call.reporter().emit_own(CallEvent::DeadlineIgnored { header });
        }
        if is_first_claim {
            let connections = self.claims.count(call.request().started());
            call.reporter().emit_own(CallEvent::ForwardedReplaced { connections });
        }
        let (admitted, place) = match admitted.and_then(|route| Ok((route, self.take_place()?))) {
            Ok((route, place)) => (Ok(route), place),
            Err(refusal) => (Err(refusal), None),
        };
        if let Err(NoUpstream::Refused(Refusal::Busy { .. })) = admitted {
            let count = self.turned_away.count(call.request().started());
            call.reporter().emit_own(CallEvent::TurnedAway { count });
        }
        Begun { ongoing: OngoingCall::new(call, self.buffers.clone(), place, user), admitted }
    }

    /// Answers a request that was taken on. Dropping the future cancels the call.
    #[expect(
        clippy::manual_async_fn,
        reason = "what an `async fn` is given has room in its future twice"
    )]
    pub(crate) fn answer(&self, begun: Begun) -> impl Future<Output = ClientResponse<ClientBody>> {
        async move {
            let Begun { ongoing, admitted } = begun;
            let route = match admitted {
                Ok(place) => &self.routes.routes()[place],
                Err(NoUpstream::Refused(refusal)) => {
                    return ongoing.refuse(refusal, self.retry_after_jitter);
                }
                Err(NoUpstream::LastHop(answer)) => return ongoing.answer_itself(*answer),
            };
            let upstream = ReachedUpstream {
                upstreams: &*self.upstreams,
                own: route.upstream,
                others: self.routes.others(),
            };
            let scope = Scope::new(&upstream);
            let outcome = route.pipeline.execute_in_time(ongoing.call(), &scope).await;
            if ongoing.call().body().is_squeezed() {
                ongoing.call().reporter().emit_own(CallEvent::BodyNotKept);
            }
            match outcome {
                Ok(response) if response.status == StatusCode::SWITCHING_PROTOCOLS => {
                    ongoing.switch(response, route.tunnel_idle_timeout)
                }
                // A client of HTTP/2 would take it for a tunnel.
                Ok(response)
                    if response.status.is_success()
                        && headers::is_extended_connect(ongoing.call().head()) =>
                {
                    let error = Error::new(ErrorKind::ProtocolError);
                    let error = error.with_source("answered in place of switching protocols");
                    ongoing.fail(&error, self.retry_after_jitter)
                }
                Ok(response) => ongoing.answer(response),
                Err(error) => ongoing.fail(&error, self.retry_after_jitter),
            }
        }
    }

    /// A place among the calls in flight. `None`: they have no limit.
    fn take_place(&self) -> Result<Option<CallPlace>, Refusal> {
        let Some(places) = &self.places else { return Ok(None) };
        match places.take() {
            Some(place) => Ok(Some(place)),
            None => Err(Refusal::Busy { retry_after: BUSY }),
        }
    }

    /// Answers what is no request, on a connection that ends with the answer.
    pub(crate) fn refuse(&self, unread: Unread, hop: &Hop) -> ClientResponse<ResponseBody> {
        self.refused(unread, hop);
        let refusal = Refusal::Unread(unread);
        let id = self.request_ids.next();
        ClientResponse::own(refusal.response(id.to_str().unwrap_or_default(), 0), id)
    }

    /// Tells of what is no request, and has been answered.
    pub(crate) fn refused(&self, unread: Unread, hop: &Hop) {
        self.tell(ConnectionEvent::Refused {
            client: hop.address(),
            status: Refusal::Unread(unread).status().as_u16(),
            reason: unread.name(),
            words: unread.to_string(),
            count: self.refusals.count(clock::now()),
        });
    }

    /// Tells that a handshake has ended well.
    pub(crate) fn secured(&self, session: &ServerConnection) {
        let version = match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "1.2",
            _ => "1.3",
        };
        let is_resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        let event = ConnectionEvent::Secured { version, is_resumed };
        self.worker.observers().emit_for_policy(None, &event.into());
    }

    /// Tells that a handshake has to end for another.
    pub(crate) fn handshakes_full(&self, places: usize) {
        let count = self.handshakes_full.count(clock::now());
        let event = ServerEvent::HandshakesFull { places, count };
        self.worker.observers().emit_for_policy(None, &event.into());
    }

    /// Tells that a handshake has failed.
    pub(crate) fn fail_handshake(&self, reason: HandshakeFailure, words: String, hop: &Hop) {
        let count = self.handshakes_failed.count(clock::now());
        let client = hop.address();
        let event = ConnectionEvent::HandshakeFailed { client, reason, words, count };
        self.worker.observers().emit_for_policy(None, &event.into());
    }

    /// Tells that a limit ends a connection.
    pub(crate) fn end_connection(&self, limit: ConnectionLimit, hop: &Hop) {
        let count = self.ends[limit as usize].count(clock::now());
        self.tell(ConnectionEvent::Ended { client: hop.address(), limit, count });
    }

    /// Tells that a limit ends a stream.
    pub(crate) fn end_stream(&self, limit: ConnectionLimit, hop: &Hop) {
        let count = self.stream_ends[limit as usize].count(clock::now());
        self.tell(ConnectionEvent::StreamEnded { client: hop.address(), limit, count });
    }

    /// Tells that the stream of a request was reset before anybody saw it.
    pub(crate) fn refuse_stream(&self, hop: &Hop) {
        let count = self.stream_refusals.count(clock::now());
        self.tell(ConnectionEvent::StreamRefused { client: hop.address(), count });
    }

    /// Tells that a connection ends for what its client did.
    pub(crate) fn fail_http2(&self, fault: Http2Fault, hop: &Hop) {
        let count = self.http2_faults[fault as usize].count(clock::now());
        self.tell(ConnectionEvent::Http2Failed { client: hop.address(), fault, count });
    }

    fn tell(&self, event: ConnectionEvent) {
        self.worker.observers().emit_for_policy(None, &event.into());
    }

    /// The place of the route that the request takes.
    fn admit(
        &self,
        host: &Option<Rc<str>>,
        flaw: Option<RequestFlaw>,
        place: Option<usize>,
        head: &request::Parts,
        length: u64,
    ) -> Result<usize, Refusal> {
        if host.is_none() {
            return Err(RequestFlaw::Host.into());
        }
        if let Some(flaw) = flaw {
            return Err(flaw.into());
        }
        if self.is_strict && has_dot_segment(head.uri.path()) {
            return Err(RequestFlaw::Path.into());
        }
        let place = place.ok_or(Refusal::NoRoute)?;
        let upstream = self.routes.routes()[place].upstream;
        if !self.routes.upstreams()[upstream].config.takes(&head.uri) {
            return Err(RequestFlaw::TargetLength.into());
        }
        if length > self.max_body {
            return Err(Refusal::from(&Error::new(ErrorKind::RequestTooLarge)));
        }
        Ok(place)
    }

    /// How long somebody waits for the answer. By gRPC anybody may say so: it only shortens.
    fn deadline(&self, head: &request::Parts, hop: &Hop, is_grpc: bool) -> ClientDeadline {
        let mut said = ClientDeadline::default();
        let is_told = !self.deadline_headers.is_empty() && hop.is_trusted();
        if is_told || is_grpc {
            let told = if is_told { &*self.deadline_headers } else { &[] };
            let grpc = is_grpc.then_some(DeadlineHeader::GrpcTimeout);
            let grpc = grpc.filter(|header| !told.contains(header));
            said = ClientDeadline::of(&head.headers, told.iter().copied().chain(grpc));
        }
        if let Some(longest) = self.max_deadline {
            said.after = Some(said.after.map_or(longest, |after| after.min(longest)));
        }
        said
    }

    /// The client's request id, if it is safe in a header, a log line and JSON; or else a new one.
    fn request_id(&self, headers: &mut HeaderMap) -> HeaderValue {
        headers::take_request_id(headers).unwrap_or_else(|| self.request_ids.next())
    }
}

fn parts(head: RequestHead) -> request::Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    let RequestHead { method, target, version, headers, .. } = head;
    (parts.method, parts.uri, parts.version, parts.headers) = (method, target, version, headers);
    parts
}
