//! A page that says what failed, as a standard `wasi:http` handler: nothing in it knows fusebox but
//! the names of the headers that tell of the failure.

use std::fmt::Write as _;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::{OutputStream, StreamError};

struct StatusPage;

wasip2::http::proxy::export!(StatusPage);

impl Guest for StatusPage {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let headers = request.headers();
        let told = |name: &str| {
            let value = headers.get(name).into_iter().next();
            value.map(|value| String::from_utf8_lossy(&value).into_owned())
        };
        let fields = [("content-type", "text/html; charset=utf-8"), ("cache-control", "no-store")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.as_bytes().to_owned()));
        let response = OutgoingResponse::new(Fields::from_list(&fields).expect("these are valid"));
        response.set_status_code(503).expect("it is valid");
        let body = response.body().expect("it is asked for once");
        // The head goes out now, and each write after it as soon as the client takes it.
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("it is asked for once");
        // A client that is gone reads no page.
        if page(&stream, &request.path_with_query().unwrap_or_default(), told).is_ok() {
            drop(stream);
            OutgoingBody::finish(body, None).expect("no length was announced");
        }
    }
}

fn page(
    stream: &OutputStream,
    path: &str,
    told: impl Fn(&str) -> Option<String>,
) -> Result<(), StreamError> {
    let why = match (told("fusebox-failure"), told("fusebox-status")) {
        (Some(failure), _) => format!("no answer: {failure}"),
        (None, Some(status)) => format!("it answered {status}"),
        (None, None) => "for an unknown reason".into(),
    };
    let attempts = told("fusebox-attempts").unwrap_or_default();
    let route = told("fusebox-route").unwrap_or_default();
    write(stream, "<!doctype html>\n<title>Not available</title>\n<h1>Not available</h1>\n")?;
    let mut text = String::new();
    for (term, value) in [("Page", path), ("Why", &why), ("Attempts", &attempts), ("Route", &route)]
    {
        writeln!(text, "<p>{term}: {}</p>", escaped(value)).expect("a string takes it");
    }
    write(stream, &text)
}

fn write(stream: &OutputStream, text: &str) -> Result<(), StreamError> {
    // The interface takes up to 4,096 bytes at a time.
    text.as_bytes().chunks(4096).try_for_each(|chunk| stream.blocking_write_and_flush(chunk))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
