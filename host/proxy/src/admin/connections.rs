//! The connections of the admin listener: few, and none that keeps others out.

use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::{AbortHandle, JoinSet, yield_now};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::answer::AdminAnswer;
use super::reserve::{AdminReserve, LentDescriptor};
use super::socket::{AdminListener, AdminPeer, AdminStream};
use crate::seldom::Seldom;
use crate::sockets;

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
    let (mut connections, reserve) = (Connections::default(), AdminReserve::new());
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                reserve.fill();
                if connections.count() < MAX_CONNECTIONS || connections.make_place(&service).await {
                    connections.begin(&service, stream, peer, None);
                }
            }
            // The system says so before it looks whether somebody waits.
            Err(error) if sockets::is_of_our_own(&error) && listener.has_visitors() => {
                let lent = reserve.lend();
                if lent.is_none() && connections.make_place(&service).await {
                    // It gives its descriptor back.
                    yield_now().await;
                }
                match listener.accept().now_or_never() {
                    Some(Ok((stream, peer))) => connections.begin(&service, stream, peer, lent),
                    _ => {
                        drop(lent);
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
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
    /// Those that are open.
    fn count(&mut self) -> usize {
        while self.tasks.try_join_next().is_some() {}
        self.open.retain(|connection| !connection.task.is_finished());
        self.open.len()
    }

    /// The newest connection always gets a place, so that whoever asks about health is answered:
    /// the oldest goes, unless it changes something. (A change needs the token.) It goes when it
    /// has had time for an answer; meanwhile further ones wait in the kernel's queue. `false`: none
    /// can go.
    async fn make_place(&mut self, service: &Arc<impl AdminService>) -> bool {
        self.count();
        let oldest = self.open.iter().position(|connection| !connection.is_changing.get());
        let Some(oldest) = oldest.and_then(|oldest| self.open.remove(oldest)) else { return false };
        sleep_until(oldest.since + LEAST_STAY).await;
        // What came while this thread had no processor is answered first.
        yield_now().await;
        if !oldest.task.is_finished() {
            oldest.task.abort();
            service.crowded(self.crowded.count(Instant::now()));
        }
        true
    }

    /// One that has a descriptor of the reserve is answered once.
    fn begin(
        &mut self,
        service: &Arc<impl AdminService>,
        stream: AdminStream,
        peer: AdminPeer,
        lent: Option<LentDescriptor>,
    ) {
        let is_changing = Rc::<Cell<bool>>::default();
        let denied = self.denied.clone();
        let requester = AdminRequester { peer, is_changing: is_changing.clone(), denied };
        let task = self.tasks.spawn_local(connection(service.clone(), stream, requester, lent));
        self.open.push_back(OpenConnection { task, since: Instant::now(), is_changing });
    }
}

async fn connection(
    service: Arc<impl AdminService>,
    stream: AdminStream,
    requester: AdminRequester,
    lent: Option<LentDescriptor>,
) {
    let service = service_fn(move |request| {
        let (service, requester) = (service.clone(), requester.clone());
        async move { Ok::<_, Infallible>(service.answer(request, requester).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(lent.is_none())
        .serve_connection(TokioIo::new(stream), service);
    // Errors are not reported: the client sees them.
    timeout(CONNECTION_LIMIT, connection).await.ok();
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream as Client;
    use std::path::Path;

    use futures_util::future::join;
    use http::StatusCode;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::task::LocalSet;

    use super::super::answer;
    use super::super::socket::AdminSocket;
    use super::*;
    use crate::config::AdminAddress;

    struct Healthy;

    impl AdminService for Healthy {
        async fn answer(self: Arc<Self>, _: Request<Incoming>, _: AdminRequester) -> AdminAnswer {
            answer::text(StatusCode::OK, "ok\n")
        }

        fn crowded(&self, _: Option<u64>) {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_leaves_each_the_time_to_ask_and_be_answered() {
        let flood = async {
            let address = AdminAddress::Tcp(([127, 0, 0, 1], 0).into());
            let socket = AdminSocket::bind(&address, Path::new("")).unwrap();
            let address = socket.to_string();
            let listener = socket.listen().unwrap();
            let (mut connections, service) = (Connections::default(), Arc::new(Healthy));
            let mut clients = Vec::new();
            for _ in 0..MAX_CONNECTIONS {
                clients.push(Client::connect(&address).unwrap());
                let (stream, peer) = listener.accept().await.unwrap();
                connections.begin(&service, stream, peer, None);
            }
            let first = clients.remove(0);
            first.set_nonblocking(true).unwrap();
            let mut first = TcpStream::from_std(first).unwrap();
            // One more, before the first has asked.
            let _last = Client::connect(&address).unwrap();
            let (stream, peer) = listener.accept().await.unwrap();
            let asked = async {
                sleep(LEAST_STAY / 2).await;
                first.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
                let mut answer = String::new();
                first.read_to_string(&mut answer).await.unwrap();
                answer
            };
            let (is_made, answer) = join(connections.make_place(&service), asked).await;
            // And then it goes.
            assert!(is_made);
            connections.begin(&service, stream, peer, None);
            assert_eq!(connections.count(), MAX_CONNECTIONS);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        };
        LocalSet::new().run_until(flood).await;
    }
}
