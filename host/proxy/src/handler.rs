//! Handles one request: finds its route, makes a call, runs the pipeline, replies.

mod body;
mod host;
mod path;
mod request_id;

pub(crate) use body::ClientBody;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use fusebox_resilience::{
    Call, CallEvent, Error, ErrorKind, Observers, Random, ReplayMemory, Request as ClientRequest,
    RequestBody, RequestFlaw, Scope, Worker,
};
use http::{HeaderValue, Request, Response, request};
use hyper::body::{Body, Incoming};

use crate::config::{ListenerConfig, NO_ROUTE, PathRule};
use crate::headers::{self, Forwarding, Hop};
use crate::observe::wall_clock;
use crate::reply::Refusal;
use crate::route::{Route, RouteTable};
use crate::seldom::Seldom;
use crate::server::stream::HeadPause;
use crate::upstream::{Buffers, HttpUpstream};
use body::{ClientRequestBody, OngoingCall};
use host::Hosts;
use path::has_dot_segment;
use request_id::RequestIds;

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
    body_timeout: std::time::Duration,
    retry_after_jitter: f64,
    no_route: Arc<str>,
    request_ids: RequestIds,
    hosts: Hosts,
    /// Whether paths with dot segments are refused.
    is_strict: bool,
    replay_memory: Rc<ReplayMemory>,
    /// Of clients that say where their requests come from and are not trusted.
    claims: Seldom,
    buffers: Rc<Buffers>,
}

impl RequestHandler {
    /// A handler with its own upstreams, not yet connected. It has a worker's share of what is
    /// limited for all of them.
    pub(crate) fn new(
        routes: Arc<RouteTable>,
        limits: &ListenerConfig,
        workers: usize,
        observers: Observers,
    ) -> Self {
        let buffers = Rc::<Buffers>::default();
        Self {
            upstreams: routes
                .upstreams()
                .iter()
                .zip(routes.budgets())
                .map(|(upstream, budget)| {
                    HttpUpstream::new(upstream.clone(), budget.clone(), &buffers)
                })
                .collect(),
            names: routes.routes().iter().map(|route| Arc::from(&*route.name)).collect(),
            is_strict: limits.paths == PathRule::Strict && routes.depend_on_paths(),
            replay_memory: ReplayMemory::new(limits.max_replay_memory.in_memory() / workers).into(),
            claims: Seldom::default(),
            routes,
            worker: Worker::new(observers, Random::with_seed(fastrand::u64(..))).into(),
            max_body: limits.max_body.0,
            body_timeout: limits.body_timeout.0,
            retry_after_jitter: limits.retry_after_jitter,
            no_route: NO_ROUTE.into(),
            request_ids: RequestIds::default(),
            hosts: Hosts::default(),
            buffers,
        }
    }

    /// Closes upstream connections that have been unused for too long, and keeps less of what
    /// nobody uses.
    pub(crate) fn reap(&self) {
        self.upstreams.iter().for_each(HttpUpstream::reap);
        self.worker.timers().thin_out();
        self.buffers.thin_out();
    }

    /// Answers a request. Dropping the future cancels the call.
    pub(crate) async fn handle(
        &self,
        request: Request<Incoming>,
        hop: &Hop,
        pause: HeadPause,
    ) -> Response<ClientBody> {
        let (mut head, incoming) = request.into_parts();
        let id = self.request_id(&head);
        let host = self.hosts.canonical(&mut head);
        let place =
            host.as_deref().and_then(|host| self.routes.find(host, head.uri.path(), &head.method));

        let Forwarding { added, client, flaw, is_first_claim } =
            headers::forward_request(&mut head.headers, head.version, hop);
        head.headers.insert(headers::REQUEST_ID, id.clone());
        let route = place.map(|place| &self.routes.routes()[place]);
        let admitted = self.admit(&host, flaw, route, &head, &incoming);
        // Set if the client leaves within the request body. `None`: there is no body.
        let gone = (!incoming.is_end_stream()).then(Rc::<Cell<bool>>::default);
        let name = place.map_or(&self.no_route, |place| &self.names[place]).clone();
        let replay_limit = route.map_or(0, |route| route.replay_limit);
        let body = gone.clone().map_or_else(RequestBody::empty, |gone| {
            let body = ClientRequestBody::new(incoming, self.max_body, self.body_timeout, gone);
            RequestBody::kept_in(Box::pin(body), replay_limit, &self.replay_memory)
        });
        let mut request = ClientRequest::new(id, name, head, wall_clock::now());
        request.set_added(added);
        request.set_client(client);
        let call = Call::new(request, body, self.worker.clone());
        if call.reporter().wants_details() {
            call.reporter().emit_own(CallEvent::Started);
        }
        if is_first_claim {
            let connections = self.claims.count(call.request().started());
            call.reporter().emit_own(CallEvent::ForwardedReplaced { connections });
        }
        let ongoing = OngoingCall::new(call, gone, pause, self.buffers.clone());
        match admitted {
            Ok(route) => self.run(route, ongoing).await,
            Err(refusal) => ongoing.refuse(refusal),
        }
    }

    fn admit<'a>(
        &self,
        host: &Option<Rc<str>>,
        flaw: Option<RequestFlaw>,
        route: Option<&'a Route>,
        head: &request::Parts,
        incoming: &Incoming,
    ) -> Result<&'a Route, Refusal> {
        if host.is_none() {
            return Err(RequestFlaw::Host.into());
        }
        if let Some(flaw) = flaw {
            return Err(flaw.into());
        }
        if self.is_strict && has_dot_segment(head.uri.path()) {
            return Err(RequestFlaw::Path.into());
        }
        let route = route.ok_or(Refusal::NoRoute)?;
        if !self.routes.upstreams()[route.upstream].endpoint.takes(&head.uri) {
            return Err(RequestFlaw::TargetLength.into());
        }
        if incoming.size_hint().lower() > self.max_body {
            return Err(Refusal::from(&Error::new(ErrorKind::RequestTooLarge)));
        }
        Ok(route)
    }

    async fn run(&self, route: &Route, ongoing: OngoingCall) -> Response<ClientBody> {
        let scope = Scope::new(&self.upstreams[route.upstream]);
        let outcome = route.pipeline.execute(ongoing.call(), &scope).await;
        if ongoing.call().body().is_squeezed() {
            ongoing.call().reporter().emit_own(CallEvent::BodyNotKept);
        }
        match outcome {
            Ok(response) => ongoing.answer(response),
            Err(error) => ongoing.fail(&error, self.retry_after_jitter),
        }
    }

    /// The client's request id, if it is safe in a header, a log line and JSON; or else a new one.
    fn request_id(&self, head: &request::Parts) -> HeaderValue {
        headers::client_request_id(&head.headers)
            .cloned()
            .unwrap_or_else(|| self.request_ids.next())
    }
}
