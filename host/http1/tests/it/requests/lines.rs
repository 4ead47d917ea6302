//! Ends of lines, names, values.

use super::odd::OddRequest;

macro_rules! get {
    ($fields:literal) => {
        concat!("GET /a HTTP/1.1\r\nHost: b\r\n", $fields, "\r\n")
    };
}

const fn alike(what: &'static str, sent: &'static str, seen: &'static str) -> OddRequest {
    OddRequest::alike(what, sent, seen)
}

const LF: &str = "it takes a LF for the end of a line";
const BLANK: &str = "it passes over any number of blank lines";

pub(super) const LINES: &[OddRequest] = &[
    alike("nothing", "", ""),
    alike("a blank line", "\r\n", ""),
    alike("a blank line before", "\r\nGET /a HTTP/1.1\r\nHost: b\r\n\r\n", "GET /a"),
    alike("four of them", "\r\n\r\n\r\n\r\nGET /a HTTP/1.1\r\nHost: b\r\n\r\n", "GET /a"),
    alike(
        "five of them",
        "\r\n\r\n\r\n\r\n\r\nGET /a HTTP/1.1\r\nHost: b\r\n\r\n",
        "400 blank-lines",
    )
    .but(BLANK),
    alike("a LF before", "\nGET /a HTTP/1.1\r\nHost: b\r\n\r\n", "400 line-end").but(LF),
    alike("a CR before", "\rGET /a HTTP/1.1\r\nHost: b\r\n\r\n", "400 line-end"),
    alike("a blank before", " GET /a HTTP/1.1\r\nHost: b\r\n\r\n", "400 request-line"),
    alike("a NUL before", "\0GET /a HTTP/1.1\r\nHost: b\r\n\r\n", "400 request-line"),
    alike("a BOM before", "\u{feff}GET /a HTTP/1.1\r\nHost: b\r\n\r\n", "400 request-line"),
    alike("LF only", "GET /a HTTP/1.1\nHost: b\n\n", "400 line-end").but(LF),
    alike("LF behind the request line", "GET /a HTTP/1.1\nHost: b\r\n\r\n", "400 line-end").but(LF),
    alike("LF behind a field", "GET /a HTTP/1.1\r\nHost: b\nX: y\r\n\r\n", "400 line-end").but(LF),
    alike("LF as the last line", "GET /a HTTP/1.1\r\nHost: b\r\n\n", "400 line-end").but(LF),
    alike("LF behind an empty field", "GET /a HTTP/1.1\r\nHost: b\r\nX:\n\r\n", "400 line-end")
        .but(LF),
    alike("LF behind blanks", "GET /a HTTP/1.1\r\nHost: b\r\nX: \n\r\n", "400 line-end").but(LF),
    alike("CR only", "GET /a HTTP/1.1\rHost: b\r\r", "400 line-end"),
    alike("CR behind the request line", "GET /a HTTP/1.1\rHost: b\r\n\r\n", "400 line-end"),
    alike("CR behind a field", get!("X: y\rZ: z\r\n"), "400 line-end"),
    alike("two CR behind a field", get!("X: y\r\r\n"), "400 line-end"),
    alike("CR as the last line", "GET /a HTTP/1.1\r\nHost: b\r\n\rGET", "400 line-end"),
    alike("a CR in a name", get!("X\rY: z\r\n"), "400 field-name"),
    alike("folded", get!("X: y\r\n z\r\n"), "400 folding"),
    alike("folded with a tab", get!("X: y\r\n\tz\r\n"), "400 folding"),
    alike("folded to nothing", get!("X: y\r\n \r\n"), "400 folding"),
    alike("folded at once", "GET /a HTTP/1.1\r\n Host: b\r\n\r\n", "400 folding"),
    alike("a folded host", "GET /a HTTP/1.1\r\nHost:\r\n b\r\n\r\n", "400 folding"),
    alike("no colon", get!("X\r\n"), "400 field-name"),
    alike("no name", get!(": y\r\n"), "400 field-name"),
    alike("a blank before the colon", get!("X : y\r\n"), "400 field-name"),
    alike("a blank in a name", get!("X Y: z\r\n"), "400 field-name"),
    alike("a quote in a name", get!("\"X\": y\r\n"), "400 field-name"),
    alike("a bracket in a name", get!("X[0]: y\r\n"), "400 field-name"),
    alike("a NUL in a name", get!("X\0: y\r\n"), "400 field-name"),
    alike("a letter beyond ASCII in a name", get!("\u{e4}: y\r\n"), "400 field-name"),
    alike("an odd name", get!("!#$%&'*+-.^_`|~9: y\r\n"), "GET /a"),
    alike("an empty value", get!("X:\r\n"), "GET /a"),
    alike("a value of blanks", get!("X: \t \r\n"), "GET /a"),
    alike("a value of colons", get!("X: :::\r\n"), "GET /a"),
    alike("letters beyond ASCII in a value", get!("X: \u{e4}\u{20ac}\r\n"), "GET /a"),
    alike("a tab in a value", get!("X: a\tb\r\n"), "GET /a"),
    alike("a NUL in a value", get!("X: a\0b\r\n"), "400 field-value"),
    alike("a control in a value", get!("X: a\u{1b}b\r\n"), "400 field-value"),
    alike("a DEL in a value", get!("X: a\u{7f}b\r\n"), "400 field-value"),
    alike("cut off in the first line", "GET /a HT", "…"),
    alike("cut off in a field", "GET /a HTTP/1.1\r\nHos", "…"),
    alike("without the last line", "GET /a HTTP/1.1\r\nHost: b\r\n", "…"),
    alike("a response", "HTTP/1.1 200 OK\r\n\r\n", "400 request-line"),
    alike("TLS", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}", "400 request-line"),
    alike("a mail", "EHLO b\r\n\r\n", "400 request-line"),
    alike(
        "the proxy protocol",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\nGET / HTTP/1.1\r\n\r\n",
        "400 request-line",
    ),
];
