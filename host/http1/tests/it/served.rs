//! What a client has sent, read twice: by this crate and by hyper's server. The fuzz target
//! includes this file.

use std::cell::RefCell;
use std::error::Error as _;
use std::fmt;
use std::io;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use fusebox_http1::{
    BodyDecoder, BodyEncoder, Decoded, Framing, RequestFraming, RequestHead, RequestHeadParser,
    encode_request,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::script::Script;

/// Bytes of a head that both take.
pub(crate) const MAX_HEAD: usize = 16 * 1024;

/// All requests of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) requests: Vec<ServedRequest>,
    pub(crate) ending: Ending,
}

/// A request that came whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServedRequest {
    pub(crate) method: Method,
    pub(crate) target: Uri,
    pub(crate) version: Version,
    /// Without those that frame the body.
    pub(crate) headers: HeaderMap,
    /// Whether it came in chunks. (hyper does not say.)
    pub(crate) is_chunked: Option<bool>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
}

/// What comes after the last whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The connection waits for the next one.
    Open,
    /// It takes no other.
    Closed,
    /// Something that is not whole.
    Cut,
    /// Something that is no request.
    Refused(String),
}

/// `GET /a | POST /b "hello" (x-sum: 1) | 400 line-end`
impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told: Vec<String> = self.requests.iter().map(ToString::to_string).collect();
        match &self.ending {
            Ending::Open => {}
            Ending::Closed => told.push("end".into()),
            Ending::Cut => told.push("…".into()),
            Ending::Refused(fault) => told.push(fault.clone()),
        }
        f.write_str(&told.join(" | "))
    }
}

impl fmt::Display for ServedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)?;
        if !self.body.is_empty() {
            write!(f, " {:?}", String::from_utf8_lossy(&self.body))?;
        }
        for (name, value) in &self.trailers {
            write!(f, " ({name}: {})", String::from_utf8_lossy(value.as_bytes()))?;
        }
        Ok(())
    }
}

/// As this crate sees it. The connection ends after the last piece.
pub(crate) fn ours(pieces: &[&[u8]]) -> Served {
    let (mut parser, mut buffer) = (RequestHeadParser::new(MAX_HEAD), BytesMut::new());
    let mut pieces = pieces.iter().filter(|piece| !piece.is_empty());
    let mut requests = Vec::new();
    let ending = 'requests: loop {
        let mut head = loop {
            match parser.parse_into(&mut buffer, HeaderMap::new) {
                Ok(Some(head)) => break head,
                Ok(None) => {}
                Err(fault) => break 'requests refused(fault),
            }
            match pieces.next() {
                Some(piece) => buffer.extend_from_slice(piece),
                None if parser.has_begun() => break 'requests cut_head(&buffer),
                None => break 'requests Ending::Open,
            }
        };
        let mut decoder = BodyDecoder::of_request(head.framing);
        let (mut body, mut trailers) = (Vec::new(), HeaderMap::new());
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Decoded::Data(data)) => body.extend_from_slice(&data),
                Ok(Decoded::Trailers(found)) => trailers = found,
                Ok(Decoded::End) => break,
                Ok(Decoded::More) => match pieces.next() {
                    Some(piece) => buffer.extend_from_slice(piece),
                    None => break 'requests Ending::Cut,
                },
                Err(error) => break 'requests Ending::Refused(format!("{error:?}")),
            }
        }
        let exchange = &mut head.exchange;
        exchange.encode_response(
            StatusCode::OK,
            &HeaderMap::new().into(),
            [].into_iter(),
            Some(0),
            &mut Vec::new(),
        );
        let is_kept_alive = exchange.is_kept_alive();
        requests.push(served(head, body, trailers));
        if !is_kept_alive {
            break Ending::Closed;
        }
    };
    Served { requests, ending }
}

fn refused(fault: fusebox_http1::RequestFault) -> Ending {
    Ending::Refused(format!("{} {}", fault.status().as_u16(), fault.name()))
}

/// A head that came in pieces is looked at for the first time, and when it is whole. What is wrong
/// with it may not show before, but then for the same reason.
fn cut_head(buffer: &BytesMut) -> Ending {
    let parsed = RequestHeadParser::new(MAX_HEAD).parse_into(&mut buffer.clone(), HeaderMap::new);
    parsed.map_or_else(refused, |_| Ending::Cut)
}

fn served(head: RequestHead, body: Vec<u8>, trailers: HeaderMap) -> ServedRequest {
    let RequestHead { method, target, version, mut headers, framing, .. } = head;
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
    let is_chunked = Some(framing == Framing::Chunked);
    ServedRequest { method, target, version, headers, is_chunked, body, trailers }
}

/// As hyper's server sees it.
pub(crate) fn hypers(pieces: &[&[u8]]) -> Served {
    let pieces: Vec<Bytes> = pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
    let requests = Rc::<RefCell<Vec<ServedRequest>>>::default();
    let broken = Rc::<RefCell<Option<Ending>>>::default();
    let (noted, noted_broken) = (requests.clone(), broken.clone());
    let service = service_fn(move |request| {
        let (noted, broken) = (noted.clone(), noted_broken.clone());
        async move {
            let request = read(request).await.inspect_err(|error| {
                broken.replace(Some(ending(error)));
            })?;
            noted.borrow_mut().push(request);
            Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let ended = runtime.block_on(async {
        let mut builder = http1::Builder::new();
        builder.max_header_size(MAX_HEAD).max_buf_size(MAX_HEAD).half_close(true);
        builder.serve_connection(TokioIo::new(Script::new(pieces, true, None)), service).await
    });
    let ended = ended.map_or_else(|error| ending(&error), |()| Ending::Open);
    Served { requests: requests.take(), ending: broken.take().unwrap_or(ended) }
}

fn ending(error: &hyper::Error) -> Ending {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    if error.is_incomplete_message() || causes.clone().any(is_of_cut) {
        return Ending::Cut;
    }
    Ending::Refused(causes.map(ToString::to_string).last().unwrap_or_else(|| error.to_string()))
}

fn is_of_cut(cause: &(dyn std::error::Error + 'static)) -> bool {
    let cause = cause.downcast_ref::<io::Error>();
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::UnexpectedEof)
}

async fn read(request: Request<Incoming>) -> Result<ServedRequest, hyper::Error> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.remove(header::TRANSFER_ENCODING);
    Ok(ServedRequest {
        method: head.method,
        target: head.uri,
        version: head.version,
        headers: head.headers,
        is_chunked: None,
        body: body.to_bytes().to_vec(),
        trailers,
    })
}

/// The request as it goes on, encoded by this crate.
pub(crate) fn encoded(request: &ServedRequest) -> Vec<u8> {
    let framing = match request.is_chunked {
        Some(true) => RequestFraming::Chunked,
        _ if request.body.is_empty() => RequestFraming::None,
        _ => RequestFraming::Length(request.body.len() as u64),
    };
    let path = request.target.path_and_query().map_or("", |target| target.as_str());
    // The path of `http://b?x` has no slash.
    let slash = if path.starts_with(['/', '*']) { "" } else { "/" };
    let mut out = Vec::new();
    // What concerns one connection does not go on.
    let headers = request.headers.iter().filter(|(name, _)| **name != header::CONNECTION);
    let encoder = encode_request(&mut out, &request.method, &[slash, path], headers, framing);
    put_body(encoder, request, &mut out);
    out
}

fn put_body(mut encoder: BodyEncoder, request: &ServedRequest, out: &mut Vec<u8>) {
    for piece in request.body.chunks(7) {
        encoder.begin_piece(piece.len(), out).expect("the length is known");
        out.extend_from_slice(piece);
        encoder.end_piece(out);
    }
    encoder.end(Some(&request.trailers), out).expect("the length is known");
}

/// What is read of it again.
pub(crate) fn is_one_and_the_same(request: &ServedRequest) -> bool {
    let again = ours(&[&encoded(request)]);
    let mut expected = request.clone();
    expected.headers.remove(header::CONNECTION);
    expected.version = Version::HTTP_11;
    let query = request.target.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = format!("{}{query}", request.target.path());
    expected.target = path.parse().expect("a path");
    let mut requests = again.requests;
    // Only announced trailers go on.
    let [found] = &mut requests[..] else { return false };
    let trailers = std::mem::take(&mut found.trailers);
    let is_part = trailers.iter().all(|(name, value)| {
        expected.trailers.get_all(name).iter().any(|expected| expected == value)
    });
    expected.trailers.clear();
    is_part && again.ending == Ending::Open && *found == expected
}

impl Served {
    /// Whether the same has come in pieces. That a body is wrong may be known before it has come
    /// whole.
    pub(crate) fn is_same_in_pieces(&self, whole: &Self) -> bool {
        let is_begun = self.ending == Ending::Cut && matches!(whole.ending, Ending::Refused(_));
        self.requests == whole.requests && (is_begun || self.ending == whole.ending)
    }
}

/// Whether hyper has read the same, but for what we drop: shadows, and trailers that nobody may act
/// on. (It knows neither.)
pub(crate) fn is_taken_alike(ours: &ServedRequest, hypers: &ServedRequest) -> bool {
    let is_no_shadow = |(name, _): &(&HeaderName, &HeaderValue)| !name.as_str().contains('_');
    let without_shadows = |request: &ServedRequest| {
        let mut request = request.clone();
        request.is_chunked = None;
        let headers = request.headers.iter().filter(is_no_shadow);
        request.headers = headers.map(|(name, value)| (name.clone(), value.clone())).collect();
        request
    };
    let (mut ours, hypers) = (without_shadows(ours), without_shadows(hypers));
    let all = |name| hypers.trailers.get_all(name).iter();
    let is_part = ours.trailers.keys().all(|name| ours.trailers.get_all(name).iter().eq(all(name)));
    ours.trailers.clone_from(&hypers.trailers);
    is_part && ours == hypers
}
