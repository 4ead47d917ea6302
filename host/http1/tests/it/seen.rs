//! One response read twice: by this crate and by hyper's client. The fuzz target includes this
//! file.

use std::io;

use bytes::{Bytes, BytesMut};
use fusebox_http1::{BodyDecoder, Decoded, ResponseHeadParser};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::script::Script;

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
    Seen::Response {
        status: head.status,
        headers: fields(&head.headers.into_map()),
        body,
        trailers,
        is_whole,
    }
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
        let end = (end == End::Reset).then_some(io::ErrorKind::ConnectionReset);
        let made = builder.handshake(TokioIo::new(Script::new(pieces, false, end))).await;
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
