//! One response read twice: by this crate and by hyper's client. The fuzz target includes this
//! file.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use fusebox_http1::{BodyDecoder, Decoded, ResponseHeadParser};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a head that both take.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

/// What a client sees of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// None.
    Nothing,
    Response {
        status: StatusCode,
        /// Without those that frame the body.
        headers: Vec<(String, Vec<u8>)>,
        body: Vec<u8>,
        trailers: Vec<(String, Vec<u8>)>,
        /// Whether it came whole.
        is_whole: bool,
    },
}

impl Seen {
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self, Self::Response { is_whole: true, .. })
    }
}

/// How the connection ends after the last piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Reset,
}

fn fields(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let framing = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
    let others = headers.iter().filter(|(name, _)| !framing.contains(name));
    let mut fields: Vec<_> =
        others.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    fields.sort();
    fields
}

/// As this crate sees it. The connection is closed after the last piece.
pub(crate) fn ours(pieces: &[&[u8]], to_head: bool) -> Seen {
    ours_until(End::Closed, pieces, to_head)
}

/// The same, with this end. After a reset nothing more can come, and nobody has said that this is
/// all.
pub(crate) fn ours_until(end: End, pieces: &[&[u8]], to_head: bool) -> Seen {
    let (mut parser, mut buffer) = (ResponseHeadParser::new(MAX_HEAD, to_head), BytesMut::new());
    let mut pieces = pieces.iter().filter(|piece| !piece.is_empty());
    let head = loop {
        let Some(piece) = pieces.next() else { return Seen::Nothing };
        buffer.extend_from_slice(piece);
        match parser.parse(&mut buffer) {
            Ok(Some(head)) => break head,
            Ok(None) => {}
            Err(_) => return Seen::Nothing,
        }
    };
    let mut decoder = BodyDecoder::of_response(head.framing);
    let (mut body, mut trailers) = (Vec::new(), Vec::new());
    let is_whole = loop {
        match decoder.decode(&mut buffer) {
            Ok(Decoded::Data(data)) => body.extend_from_slice(&data),
            Ok(Decoded::Trailers(found)) => trailers = fields(&found),
            Ok(Decoded::End) => break true,
            Ok(Decoded::More) => match pieces.next() {
                Some(piece) => buffer.extend_from_slice(piece),
                None => break end == End::Closed && decoder.end_of_input().is_ok(),
            },
            Err(_) => break false,
        }
    };
    Seen::Response { status: head.status, headers: fields(&head.headers), body, trailers, is_whole }
}

/// As hyper's client sees it.
pub(crate) fn hypers(pieces: &[&[u8]], to_head: bool) -> Seen {
    hypers_until(End::Closed, pieces, to_head)
}

pub(crate) fn hypers_until(end: End, pieces: &[&[u8]], to_head: bool) -> Seen {
    let pieces: Vec<Bytes> = pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut builder = http1::Builder::new();
        builder.max_header_size(MAX_HEAD).max_buf_size(MAX_HEAD);
        let made = builder.handshake(TokioIo::new(Script::new(pieces, end))).await;
        let (mut sender, connection) = made.expect("nothing is read or written yet");
        let connection = tokio::spawn(connection);
        let method = if to_head { Method::HEAD } else { Method::GET };
        let request = Request::builder()
            .method(method)
            .uri("/")
            .header("host", "b")
            .body(Empty::<Bytes>::new());
        let answer = sender.send_request(request.expect("a request")).await;
        let seen = match answer {
            Ok(response) => read(response).await,
            Err(_) => Seen::Nothing,
        };
        drop(sender);
        connection.abort();
        seen
    })
}

async fn read(response: http::Response<hyper::body::Incoming>) -> Seen {
    let (head, mut incoming) = response.into_parts();
    let (mut body, mut trailers) = (Vec::new(), Vec::new());
    let is_whole = loop {
        match incoming.frame().await {
            None => break true,
            Some(Err(_)) => break false,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => body.extend_from_slice(&data),
                Err(frame) => {
                    trailers = frame.into_trailers().map(|found| fields(&found)).unwrap_or_default()
                }
            },
        }
    };
    Seen::Response { status: head.status, headers: fields(&head.headers), body, trailers, is_whole }
}

/// A server that says its piece once it has been asked, and then ends.
struct Script {
    pieces: std::vec::IntoIter<Bytes>,
    end: End,
    asked: bool,
    waiting: Option<Waker>,
}

impl Script {
    fn new(mut pieces: Vec<Bytes>, end: End) -> Self {
        // To read nothing is to read the end.
        pieces.retain(|piece| !piece.is_empty());
        Self { pieces: pieces.into_iter(), end, asked: false, waiting: None }
    }
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.asked {
            self.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(mut piece) = self.pieces.next() {
            let now = piece.split_to(piece.len().min(buffer.remaining()));
            buffer.put_slice(&now);
            if !piece.is_empty() {
                let rest: Vec<Bytes> = std::iter::once(piece).chain(self.pieces.by_ref()).collect();
                self.pieces = rest.into_iter();
            }
        } else if self.end == End::Reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.asked = true;
        self.waiting.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
