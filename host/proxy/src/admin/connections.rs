//! The connections of the admin listener: few, and none that keeps others out.

use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::{AbortHandle, JoinSet, yield_now};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::answer::AdminAnswer;
use super::socket::{AdminListener, AdminPeer, AdminStream};
use crate::seldom::Seldom;

/// How long a client may take for a request head, and stay without a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may last,
const CONNECTION_LIMIT: Duration = Duration::from_secs(300);
/// and how many there may be: they use the same file descriptors as the proxy's clients.
const MAX_CONNECTIONS: usize = 64;

/// How long a connection keeps its place at least, so that its client is answered.
const LEAST_STAY: Duration = Duration::from_millis(5);

/// How long the listener waits when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers requests.
pub(super) trait AdminService: 'static {
    /// The answer to a request.
    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        requester: AdminRequester,
    ) -> impl Future<Output = AdminAnswer>;

    /// A connection was closed to make place for another.
    fn crowded(&self, count: Option<u64>);
}

/// Who sends a request.
#[derive(Clone, Debug)]
pub(super) struct AdminRequester {
    pub(super) peer: AdminPeer,
    /// Set while the request changes something.
    pub(super) is_changing: Rc<Cell<bool>>,
    /// Counts what was denied to anybody.
    pub(super) denied: Rc<Seldom>,
}

/// Serves until it is dropped; the connections end with it.
pub(super) async fn serve(service: Arc<impl AdminService>, listener: AdminListener) {
    let mut connections = Connections::default();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => connections.begin(&service, stream, peer).await,
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

#[derive(Debug, Default)]
struct Connections {
    tasks: JoinSet<()>,
    /// The oldest first.
    open: VecDeque<OpenConnection>,
    crowded: Seldom,
    denied: Rc<Seldom>,
}

#[derive(Debug)]
struct OpenConnection {
    task: AbortHandle,
    since: Instant,
    is_changing: Rc<Cell<bool>>,
}

impl Connections {
    /// The newest connection always gets a place, so that whoever asks about health is answered:
    /// the oldest goes, unless it changes something. (A change needs the token.) It goes when it
    /// has had time for an answer; meanwhile further ones wait in the kernel's queue.
    async fn begin(
        &mut self,
        service: &Arc<impl AdminService>,
        stream: AdminStream,
        peer: AdminPeer,
    ) {
        while self.tasks.try_join_next().is_some() {}
        self.open.retain(|connection| !connection.task.is_finished());
        if self.open.len() >= MAX_CONNECTIONS {
            let oldest = self.open.iter().position(|connection| !connection.is_changing.get());
            let Some(oldest) = oldest.and_then(|oldest| self.open.remove(oldest)) else { return };
            sleep_until(oldest.since + LEAST_STAY).await;
            // What came while this thread had no processor is answered first.
            yield_now().await;
            if !oldest.task.is_finished() {
                oldest.task.abort();
                service.crowded(self.crowded.count(Instant::now()));
            }
        }
        let is_changing = Rc::<Cell<bool>>::default();
        let denied = self.denied.clone();
        let requester = AdminRequester { peer, is_changing: is_changing.clone(), denied };
        let task = self.tasks.spawn_local(connection(service.clone(), stream, requester));
        self.open.push_back(OpenConnection { task, since: Instant::now(), is_changing });
    }
}

async fn connection(
    service: Arc<impl AdminService>,
    stream: AdminStream,
    requester: AdminRequester,
) {
    let service = service_fn(move |request| {
        let (service, requester) = (service.clone(), requester.clone());
        async move { Ok::<_, Infallible>(service.answer(request, requester).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // Errors are not reported: the client sees them.
    timeout(CONNECTION_LIMIT, connection).await.ok();
}
