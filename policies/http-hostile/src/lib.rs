//! For the tests of fusebox: whatever an HTTP handler can do wrong, and a few things that it can do
//! right, by the first part of the request's path.

use wasip2::clocks::monotonic_clock::{now, subscribe_duration};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingRequest, IncomingResponse, Method,
    OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
};
use wasip2::io::streams::{OutputStream, StreamError};

struct Hostile;

wasip2::http::proxy::export!(Hostile);

const DAY: u64 = 24 * 60 * 60 * 1_000_000_000;
const MILLISECOND: u64 = 1_000_000;

impl Guest for Hostile {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let (what, detail) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
        let number = detail.parse().unwrap_or(0);
        match what {
            "trap" => panic!("as it was asked to"),
            "loop" => forever(),
            "wait" => subscribe_duration(DAY).block(),
            // Longer than one poll of the host, so that others have their turn.
            "later" => {
                subscribe_duration(number * MILLISECOND).block();
                answer(out, 200, &[], "later");
            }
            "grow" => grow(out),
            "silent" => drop((request, out)),
            "dropped" => {
                drop(out);
                subscribe_duration(DAY).block();
            }
            "error" => ResponseOutparam::set(
                out,
                Err(ErrorCode::InternalError(Some("as it was asked to".into()))),
            ),
            "status" => answer(out, number as u16, &[], ""),
            "many-headers" => {
                let fields: Vec<_> =
                    (0..number).map(|index| (format!("x-{index}"), "1".to_owned())).collect();
                answer(out, 200, &fields, "");
            }
            "no-body" => answer(out, 204, &[], "none of this"),
            "echo" => echo(&request, out),
            "print" => {
                println!("printed before");
                let (body, stream) = head(out, 200, &[]);
                write(&stream, "text").expect("the client is there");
                subscribe_duration(50 * MILLISECOND).block();
                println!("printed after");
                finish(body, stream);
            }
            // Some bytes, and then …
            "body-trap" => {
                begun(out);
                panic!("within the body");
            }
            "body-loop" => {
                let _body = begun(out);
                forever();
            }
            "body-wait" => {
                let _body = begun(out);
                subscribe_duration(DAY).block();
            }
            // The end of the body, and of an epoch, and then a trap.
            "body-drop-trap" => {
                drop(begun(out));
                busy(number);
                panic!("after the body");
            }
            "body-end-trap" => {
                let (stream, body) = begun(out);
                finish(body, stream);
                busy(number);
                panic!("after the body");
            }
            "body-unfinished" => drop(begun(out)),
            "body-short" => {
                let (body, stream) = head(out, 200, &[("content-length".into(), "10".into())]);
                write(&stream, "short").expect("the client is there");
                subscribe_duration(50 * MILLISECOND).block();
                drop(stream);
                OutgoingBody::finish(body, None).expect_err("it is too short");
            }
            "body-exact" => {
                let (body, stream) = head(out, 200, &[("content-length".into(), "5".into())]);
                subscribe_duration(50 * MILLISECOND).block();
                write(&stream, "exact").expect("the client is there");
                finish(body, stream);
            }
            // A body that takes its time: so many pieces, 20 ms apart.
            "ticks" => {
                let (body, stream) = head(out, 200, &[]);
                for index in 0..number {
                    if write(&stream, &format!("{index}\n")).is_err() {
                        return;
                    }
                    subscribe_duration(20 * MILLISECOND).block();
                }
                finish(body, stream);
            }
            // So many KiB, as fast as they are taken.
            "large" => {
                let (body, stream) = head(out, 200, &[]);
                let piece = "0123456789abcdef".repeat(64);
                for _ in 0..number {
                    if write(&stream, &piece).is_err() {
                        return;
                    }
                }
                finish(body, stream);
            }
            "fetch" => fetch(&request, out, Scheme::Http, 1),
            "fetch-tls" => fetch(&request, out, Scheme::Https, 1),
            "fetch-many" => fetch(&request, out, Scheme::Http, 20),
            // A body of so many KiB, whose length is not said, or is.
            "send" => send(&request, out, number, false),
            "send-exact" => send(&request, out, number, true),
            "fetch-left" => fetch_and_leave(&request, out),
            _ => answer(out, 200, &[], "good"),
        }
    }
}

fn forever() -> ! {
    loop {
        std::hint::black_box(());
    }
}

/// For so many milliseconds of time.
fn busy(millis: u64) {
    let end = now() + millis * MILLISECOND;
    while now() < end {}
}

fn grow(out: ResponseOutparam) {
    let held: Vec<_> = (0..1024).map(|_| vec![1_u8; 1 << 20]).collect();
    answer(out, 200, &[], &held.len().to_string());
}

fn head(
    out: ResponseOutparam,
    status: u16,
    fields: &[(String, String)],
) -> (OutgoingBody, OutputStream) {
    let fields: Vec<_> =
        fields.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect();
    let response = OutgoingResponse::new(Fields::from_list(&fields).expect("they are valid"));
    response.set_status_code(status).expect("it is valid");
    let body = response.body().expect("it is asked for once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("it is asked for once");
    (body, stream)
}

fn finish(body: OutgoingBody, stream: OutputStream) {
    drop(stream);
    OutgoingBody::finish(body, None).expect("it is as long as was said");
}

fn answer(out: ResponseOutparam, status: u16, fields: &[(String, String)], text: &str) {
    let (body, stream) = head(out, status, fields);
    write(&stream, text).expect("the client is there");
    finish(body, stream);
}

/// A head, some bytes, and time for both to arrive.
fn begun(out: ResponseOutparam) -> (OutputStream, OutgoingBody) {
    let (body, stream) = head(out, 200, &[]);
    write(&stream, "begun\n").expect("the client is there");
    subscribe_duration(50 * MILLISECOND).block();
    (stream, body)
}

fn write(stream: &OutputStream, text: &str) -> Result<(), StreamError> {
    text.as_bytes().chunks(4096).try_for_each(|chunk| stream.blocking_write_and_flush(chunk))
}

fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let mut text = format!(
        "{:?} {:?} {:?}\n",
        request.method(),
        request.authority().unwrap_or_default(),
        request.path_with_query().unwrap_or_default()
    );
    let mut fields = request.headers().entries();
    fields.sort();
    for (name, value) in fields {
        text += &format!("{name}: {}\n", String::from_utf8_lossy(&value));
    }
    let body = request.consume().expect("it is asked for once");
    let stream = body.stream().expect("it is asked for once");
    let mut length = 0;
    while let Ok(bytes) = stream.blocking_read(4096) {
        length += bytes.len();
    }
    text += &format!("body: {length}\n");
    answer(out, 200, &[], &text);
}

/// Asks the authority in `x-fetch` for `/fetched`, `times` times at once, and tells what came of
/// each.
fn fetch(request: &IncomingRequest, out: ResponseOutparam, scheme: Scheme, times: usize) {
    let authority = String::from_utf8(request.headers().get("x-fetch").remove(0)).expect("text");
    let asked: Vec<_> = (0..times)
        .map(|_| outgoing_handler::handle(outgoing(&scheme, &authority, Fields::new()), None))
        .collect();
    let text: String = asked.into_iter().map(told).collect();
    answer(out, 200, &[], &text);
}

/// Sends so many KiB to the authority in `x-fetch`, and tells what came of it.
fn send(request: &IncomingRequest, out: ResponseOutparam, kib: u64, is_length_said: bool) {
    let authority = String::from_utf8(request.headers().get("x-fetch").remove(0)).expect("text");
    let length = (kib << 10).to_string().into_bytes();
    let fields = [("content-length".to_owned(), length)];
    let fields = if is_length_said { &fields[..] } else { &[] };
    let fields = Fields::from_list(fields).expect("they are valid");
    let request = outgoing(&Scheme::Http, &authority, fields);
    request.set_method(&Method::Post).expect("it is valid");
    let body = request.body().expect("it is asked for once");
    let stream = body.write().expect("it is asked for once");
    let asked = outgoing_handler::handle(request, None);
    let piece = "0123456789abcdef".repeat(64);
    let written = (0..kib).try_for_each(|_| write(&stream, &piece));
    drop(stream);
    if written.is_ok() {
        OutgoingBody::finish(body, None).expect("it is as long as was said");
    }
    answer(out, 200, &[], &told(asked));
}

/// Asks the authority in `x-fetch`, and does not wait for what comes of it.
fn fetch_and_leave(request: &IncomingRequest, out: ResponseOutparam) {
    let authority = String::from_utf8(request.headers().get("x-fetch").remove(0)).expect("text");
    let asked = outgoing_handler::handle(outgoing(&Scheme::Http, &authority, Fields::new()), None);
    subscribe_duration(200 * MILLISECOND).block();
    drop(asked);
    subscribe_duration(50 * MILLISECOND).block();
    answer(out, 200, &[], "left");
}

fn outgoing(scheme: &Scheme, authority: &str, fields: Fields) -> OutgoingRequest {
    let request = OutgoingRequest::new(fields);
    request.set_scheme(Some(scheme)).expect("it is valid");
    request.set_authority(Some(authority)).expect("it is valid");
    request.set_path_with_query(Some("/fetched")).expect("it is valid");
    request
}

/// What came of a request.
fn told(asked: Result<FutureIncomingResponse, ErrorCode>) -> String {
    let response = asked.and_then(|future| {
        future.subscribe().block();
        future.get().expect("it is ready").expect("it is asked for once")
    });
    match response {
        Ok(response) => fetched(response),
        Err(error) => format!("{error:?}\n"),
    }
}

fn fetched(response: IncomingResponse) -> String {
    let status = response.status();
    let body = response.consume().expect("it is asked for once");
    let stream = body.stream().expect("it is asked for once");
    let mut bytes = Vec::new();
    let mut length = 0;
    let end = loop {
        match stream.blocking_read(1 << 16) {
            Ok(more) => {
                length += more.len();
                if bytes.len() < 64 {
                    bytes.extend(more);
                }
            }
            Err(StreamError::Closed) => break "whole".to_owned(),
            Err(StreamError::LastOperationFailed(error)) => break error.to_debug_string(),
        }
    };
    bytes.truncate(64);
    format!("{status} {length} {} {end}\n", String::from_utf8_lossy(&bytes))
}
