//! A client of HTTP/2.

use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::Bytes;
use fusebox_dev::LIMIT;
use h2::client::{Connection, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::request::Builder;
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A connection, which goes on by itself.
pub(crate) struct Client {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A request that was sent, or a part of it.
pub(crate) struct Exchange<'a> {
    client: &'a Client,
    pub(crate) sending: SendStream<Bytes>,
    response: ResponseFuture,
}

/// A response, whole or not.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
    /// How it broke off.
    pub(crate) reset: Option<Reason>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next();
        assert_eq!(values.next(), None, "`{name}` came twice");
        first.map(|value| value.to_str().expect("text"))
    }

    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

/// A GET of this path whose request id is `id`.
pub(crate) fn get(path: &str, id: &str) -> Builder {
    Request::get(format!("http://b.example{path}")).header("x-request-id", id)
}

/// A POST to `/`, likewise.
pub(crate) fn post(id: &str) -> Builder {
    Request::post("http://b.example/").header("x-request-id", id)
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::with(address, h2::client::Builder::new())
    }

    #[track_caller]
    pub(crate) fn with(address: SocketAddr, builder: h2::client::Builder) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (sender, connection) = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.expect("it listens");
            stream.set_nodelay(true).expect("a socket");
            let shaken: (SendRequest<Bytes>, Connection<TcpStream, Bytes>) =
                builder.handshake(stream).await.expect("a handshake");
            (shaken.0, tokio::spawn(shaken.1))
        });
        Self { runtime, sender, connection }
    }

    #[track_caller]
    pub(crate) fn within<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let done = self.runtime.block_on(async { timeout(LIMIT, work).await });
        done.unwrap_or_else(|_| panic!("this never came: {what}"))
    }

    /// Begins a request, to which a body comes unless `is_whole`.
    #[track_caller]
    pub(crate) fn begin(&self, request: Builder, is_whole: bool) -> Exchange<'_> {
        let sender = self.sender.clone();
        let mut sender =
            self.within("room for a stream", sender.ready()).expect("the connection is there");
        let request = request.body(()).expect("a request");
        let (response, sending) = sender.send_request(request, is_whole).expect("it is sent");
        Exchange { client: self, sending, response }
    }

    #[track_caller]
    pub(crate) fn ask(&self, request: Builder) -> Answer {
        self.begin(request, true).answer()
    }

    #[track_caller]
    pub(crate) fn send(&self, request: Builder, body: impl Into<Bytes>) -> Answer {
        let mut exchange = self.begin(request, false);
        exchange.send(body, true);
        exchange.answer()
    }

    /// Waits until the other side has ended the connection.
    #[track_caller]
    pub(crate) fn end(self) -> Result<(), h2::Error> {
        let Self { runtime, sender, connection } = self;
        // It ends by itself once nobody can send anything on it.
        let ended = runtime.block_on(async { timeout(LIMIT, connection).await });
        drop(sender);
        ended.expect("the end of the connection").expect("no panic")
    }

    /// The peer's word that no more streams are to be begun.
    #[track_caller]
    pub(crate) fn is_told_to_end(&self) {
        self.within("GOAWAY", async {
            loop {
                match self.sender.clone().ready().await {
                    Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                    Err(_) => return,
                }
            }
        });
    }
}

impl Exchange<'_> {
    /// Sends a piece of the body.
    #[track_caller]
    pub(crate) fn send(&mut self, piece: impl Into<Bytes>, is_last: bool) {
        self.sending.send_data(piece.into(), is_last).expect("it goes out");
    }

    /// The same for a request that may have been refused by then.
    pub(crate) fn offer(&mut self, piece: impl Into<Bytes>) {
        self.sending.send_data(piece.into(), false).ok();
    }

    /// The head of the response.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Result<Response<RecvStream>, h2::Error> {
        self.client.within("a response", &mut self.response)
    }

    /// The next interim response.
    #[track_caller]
    pub(crate) fn hint(&mut self) -> Option<Response<()>> {
        let hint = poll_fn(|cx| self.response.poll_informational(cx));
        self.client.within("an interim response", hint).map(|hint| hint.expect("it is whole"))
    }

    /// The next piece of its body.
    #[track_caller]
    pub(crate) fn data(&self, body: &mut RecvStream) -> Bytes {
        let data = self.client.within("some of a body", body.data());
        let data = data.expect("there is more").expect("it is whole");
        body.flow_control().release_capacity(data.len()).expect("it was taken");
        data
    }

    /// The response, however it ends.
    #[track_caller]
    pub(crate) fn answer(mut self) -> Answer {
        let response = self.head().expect("a response");
        self.rest(response)
    }

    /// Likewise, of this head.
    #[track_caller]
    pub(crate) fn rest(&self, response: Response<RecvStream>) -> Answer {
        let (head, mut stream) = response.into_parts();
        let mut answer = Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: Vec::new(),
            trailers: None,
            reset: None,
        };
        self.client.within("a whole response", async {
            while let Some(data) = stream.data().await {
                let Ok(data) = data.map_err(|error| answer.reset = error.reason()) else { return };
                stream.flow_control().release_capacity(data.len()).expect("it was taken");
                answer.body.extend_from_slice(&data);
            }
            match stream.trailers().await {
                Ok(trailers) => answer.trailers = trailers,
                Err(error) => answer.reset = error.reason(),
            }
        });
        answer
    }

    /// Waits until the stream is reset.
    #[track_caller]
    pub(crate) fn reset(&mut self) -> Reason {
        let reset = poll_fn(|cx| self.sending.poll_reset(cx));
        self.client.within("a reset", reset).expect("the connection is there")
    }

    /// Gives it up.
    pub(crate) fn give_up(mut self) {
        self.sending.send_reset(Reason::CANCEL);
    }
}
