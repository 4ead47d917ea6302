//! [`H2Origin`], an upstream over HTTP/2 that answers as it is told and remembers what it got.

use std::fmt;
use std::future::{Future, poll_fn};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response, request};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::task::{LocalSet, spawn_local};

use crate::wait::lock;

/// An upstream over HTTP/2, whose connections are served by one thread.
#[derive(Debug)]
pub struct H2Origin {
    address: SocketAddr,
    shared: Arc<OriginState>,
    /// Its end is the origin's.
    _end: tokio::sync::oneshot::Sender<()>,
}

#[derive(Debug, Default)]
struct OriginState {
    seen: Mutex<Vec<H2Seen>>,
    connections: Mutex<usize>,
}

/// A request that came to an origin.
#[derive(Clone, Debug)]
pub struct H2Seen {
    /// The number of its connection, from 0.
    pub connection: usize,
    /// Its head.
    pub head: request::Parts,
    /// What came of its body.
    pub body: Vec<u8>,
    /// The trailers, if it has some.
    pub trailers: Option<HeaderMap>,
    /// How it ended, if not whole.
    pub reset: Option<Reason>,
}

impl H2Seen {
    /// The value of a header, if it has it.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).map(|value| value.to_str().expect("text"))
    }
}

/// A request that waits for its answer.
#[derive(Debug)]
pub struct H2Exchange {
    /// Among all requests, from 0.
    pub number: usize,
    /// Its path and query.
    pub path: String,
    body: RecvStream,
    response: SendResponse<Bytes>,
    shared: Arc<OriginState>,
}

impl H2Exchange {
    /// Receives the body, which the origin remembers.
    pub async fn receive(&mut self) -> Vec<u8> {
        while self.data().await.is_some() {}
        let trailers = self.body.trailers().await.ok().flatten();
        let seen = &mut lock(&self.shared.seen)[self.number];
        seen.trailers = trailers;
        seen.body.clone()
    }

    /// Receives some of the body.
    pub async fn data(&mut self) -> Option<Bytes> {
        let data = self.body.data().await?;
        let seen = &mut lock(&self.shared.seen)[self.number];
        match data {
            Ok(data) => {
                seen.body.extend_from_slice(&data);
                self.body.flow_control().release_capacity(data.len()).ok();
                Some(data)
            }
            Err(error) => {
                seen.reset = error.reason();
                None
            }
        }
    }

    /// Whether the body has come to its end.
    pub fn is_whole(&self) -> bool {
        self.body.is_end_stream()
    }

    /// Sends an interim response.
    pub fn inform(&mut self, head: Response<()>) {
        self.response.send_informational(head).expect("the stream is open");
    }

    /// Begins the answer.
    pub fn answer(&mut self, head: Response<()>, has_ended: bool) -> SendStream<Bytes> {
        self.response.send_response(head, has_ended).expect("the stream is open")
    }

    /// Answers with this text.
    pub fn ok(&mut self, text: impl Into<Bytes>) {
        let text = text.into();
        let mut stream = self.answer(Response::new(()), text.is_empty());
        if !text.is_empty() {
            stream.send_data(text, true).expect("the stream is open");
        }
    }

    /// Ends the stream.
    pub fn reset(&mut self, reason: Reason) {
        self.response.send_reset(reason);
    }

    /// Waits until the other side ends the stream, before there is an answer.
    pub async fn ended(&mut self) {
        let reset = poll_fn(|cx| self.response.poll_reset(cx)).await.ok();
        lock(&self.shared.seen)[self.number].reset = reset;
    }

    /// The same within the answer.
    pub async fn ended_within(&mut self, answer: &mut SendStream<Bytes>) {
        let reset = poll_fn(|cx| answer.poll_reset(cx)).await.ok();
        lock(&self.shared.seen)[self.number].reset = reset;
    }
}

impl H2Origin {
    /// One that serves each request like this.
    pub fn start<F>(serve: impl Fn(H2Exchange) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        Self::with(server::Builder::new(), serve)
    }

    /// The same with these settings.
    pub fn with<F>(
        builder: server::Builder,
        serve: impl Fn(H2Exchange) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        Self::on(listener, builder, serve)
    }

    /// The same on this socket.
    pub fn on<F>(
        listener: TcpListener,
        builder: server::Builder,
        serve: impl Fn(H2Exchange) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::<OriginState>::default();
        let (state, (end, mut ended)) = (shared.clone(), tokio::sync::oneshot::channel());
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let accept = async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                let serve = Rc::new(serve);
                while let Ok((stream, _)) = listener.accept().await {
                    let number = count(&state);
                    let (builder, state) = (builder.clone(), state.clone());
                    spawn_local(serve_connection(builder, stream, number, state, serve.clone()));
                }
            };
            let all = LocalSet::new();
            runtime.expect("a runtime").block_on(all.run_until(async {
                tokio::select! {
                    () = accept => {}
                    _ = &mut ended => {}
                }
            }));
        });
        Self { address, shared, _end: end }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<H2Seen> {
        lock(&self.shared.seen).clone()
    }

    /// The only request so far.
    #[track_caller]
    pub fn only(&self) -> H2Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        *lock(&self.shared.connections)
    }
}

/// The number of a new connection.
fn count(state: &OriginState) -> usize {
    let mut connections = lock(&state.connections);
    *connections += 1;
    *connections - 1
}

async fn serve_connection<F>(
    builder: server::Builder,
    stream: TcpStream,
    number: usize,
    shared: Arc<OriginState>,
    serve: Rc<impl Fn(H2Exchange) -> F + 'static>,
) where
    F: Future<Output = ()> + 'static,
{
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, response))) = connection.accept().await {
        spawn_local(serve(remember(request, response, number, &shared)));
    }
}

fn remember(
    request: Request<RecvStream>,
    response: SendResponse<Bytes>,
    connection: usize,
    shared: &Arc<OriginState>,
) -> H2Exchange {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("", |path| path.as_str()).to_owned();
    let mut seen = lock(&shared.seen);
    let number = seen.len();
    seen.push(H2Seen { connection, head, body: Vec::new(), trailers: None, reset: None });
    H2Exchange { number, path, body, response, shared: shared.clone() }
}

impl fmt::Display for H2Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.address)
    }
}
