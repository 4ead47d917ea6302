//! One request: route, call, pipeline, reply.

mod body;
mod host;
mod request_id;

pub(crate) use body::ClientBody;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use fusebox_resilience::{
    Call, CallEvent, Error, ErrorKind, Observers, Random, Request as ClientRequest, RequestBody,
    Scope, Worker,
};
use http::{HeaderValue, Request, Response, request};
use hyper::body::{Body, Incoming};

use crate::config::ListenerConfig;
use crate::headers::{self, Hop};
use crate::observe::wall_clock;
use crate::reply::Refusal;
use crate::route::{Route, RouteTable};
use crate::server::HeadPause;
use crate::upstream::{Buffers, HttpUpstream};
use body::{ClientRequestBody, Finish};
use host::Hosts;
use request_id::RequestIds;

/// The name of the route of requests that no route takes.
const NO_ROUTE: &str = "none";

/// What answers the requests of one worker.
#[derive(Debug)]
pub(crate) struct Handler {
    routes: Arc<RouteTable>,
    /// One for each of the routes' targets, in their order.
    upstreams: Box<[HttpUpstream]>,
    /// Those of the routes, in their order: the worker's own, since each call has one, and
    /// counting who has it would otherwise be done by all workers in the same place.
    names: Box<[Arc<str>]>,
    worker: Rc<Worker>,
    max_body: u64,
    body_timeout: std::time::Duration,
    no_route: Arc<str>,
    request_ids: RequestIds,
    hosts: Hosts,
    buffers: Rc<Buffers>,
}

impl Handler {
    /// A handler with its own, still unconnected upstreams.
    pub(crate) fn new(
        routes: Arc<RouteTable>,
        limits: &ListenerConfig,
        observers: Observers,
    ) -> Self {
        let buffers = Rc::<Buffers>::default();
        Self {
            upstreams: routes
                .targets()
                .iter()
                .map(|target| HttpUpstream::new(target.clone(), &buffers))
                .collect(),
            names: routes.routes().iter().map(|route| Arc::from(&*route.name)).collect(),
            routes,
            worker: Worker::new(observers, Random::with_seed(fastrand::u64(..))).into(),
            max_body: limits.max_body.as_u64(),
            body_timeout: limits.body_timeout.0,
            no_route: NO_ROUTE.into(),
            request_ids: RequestIds::default(),
            hosts: Hosts::default(),
            buffers,
        }
    }

    /// Closes upstream connections that nobody has used for long.
    pub(crate) fn reap(&self) {
        self.upstreams.iter().for_each(HttpUpstream::reap);
    }

    /// Answers a request. Dropped before it has, the call is cancelled with everything it runs.
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

        let added = headers::forward_request(&mut head.headers, head.version, hop);
        head.headers.insert(headers::REQUEST_ID, id.clone());
        let route = place.map(|place| &self.routes.routes()[place]);
        let admitted = self.admit(&host, route, &head, &incoming);
        // There if there is a body; learns whether the client leaves within it.
        let gone = (!incoming.is_end_stream()).then(Rc::<Cell<bool>>::default);
        let name = place.map_or(&self.no_route, |place| &self.names[place]).clone();
        let replay_limit = route.map_or(0, |route| route.replay_limit);
        let body = gone.clone().map_or_else(RequestBody::empty, |gone| {
            let body = ClientRequestBody::new(incoming, self.max_body, self.body_timeout, gone);
            RequestBody::new(Box::pin(body), replay_limit)
        });
        let request = ClientRequest::new(id, name, head, wall_clock::now()).with_added(added);
        let call = Call::new(request, body, self.worker.clone());
        if call.reporter().wants_details() {
            call.reporter().emit_own(CallEvent::Started);
        }
        let finish = Finish::new(call, gone, pause, self.buffers.clone());
        match admitted {
            Ok(route) => self.run(route, finish).await,
            Err(refusal) => finish.refuse(refusal),
        }
    }

    fn admit<'a>(
        &self,
        host: &Option<Rc<str>>,
        route: Option<&'a Route>,
        head: &request::Parts,
        incoming: &Incoming,
    ) -> Result<&'a Route, Refusal> {
        if host.is_none() {
            return Err(Refusal::BadHost);
        }
        let route = route.ok_or(Refusal::NoRoute)?;
        if !self.routes.targets()[route.upstream].takes(&head.uri) {
            return Err(Refusal::TargetTooLong);
        }
        if incoming.size_hint().lower() > self.max_body {
            return Err(Refusal::from(&Error::new(ErrorKind::RequestTooLarge)));
        }
        Ok(route)
    }

    async fn run(&self, route: &Route, finish: Finish) -> Response<ClientBody> {
        let scope = Scope::new(&self.upstreams[route.upstream]);
        let outcome = route.pipeline.execute(finish.call(), &scope).await;
        match outcome {
            Ok(response) => finish.answer(response),
            Err(error) => finish.fail(&error),
        }
    }

    /// Letters, digits and a few signs: fit for a header, a log line and JSON as they are.
    fn request_id(&self, head: &request::Parts) -> HeaderValue {
        headers::client_request_id(&head.headers)
            .cloned()
            .unwrap_or_else(|| self.request_ids.next())
    }
}
