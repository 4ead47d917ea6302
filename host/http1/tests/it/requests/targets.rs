//! Request lines: methods, targets, versions.

use super::odd::OddRequest;

macro_rules! line {
    ($line:literal) => {
        concat!($line, "\r\nHost: b\r\n\r\n")
    };
}

const fn alike(what: &'static str, sent: &'static str, seen: &'static str) -> OddRequest {
    OddRequest::alike(what, sent, seen)
}

const FRAGMENT: &str = "it drops fragments";
const FORMS: &str = "it takes the forms of all methods, and any scheme";
const NO_URI: &str = "its URIs are wider than RFC 3986";

pub(super) const TARGETS: &[OddRequest] = &[
    alike("the root", line!("GET / HTTP/1.1"), "GET /"),
    alike("a query", line!("GET /a?b=c&d=%zz HTTP/1.1"), "GET /a?b=c&d=%zz"),
    alike("two slashes", line!("GET //evil.example/a HTTP/1.1"), "GET //evil.example/a"),
    alike("dots", line!("GET /a/../b/./c HTTP/1.1"), "GET /a/../b/./c"),
    alike("a backslash", line!("GET /a\\..\\b HTTP/1.1"), "GET /a\\..\\b"),
    alike("quotes", line!("GET /\"{a}\" HTTP/1.1"), "GET /\"{a}\""),
    alike("angle brackets", line!("GET /<a> HTTP/1.1"), "400 target"),
    alike("a fragment", line!("DELETE /all#but-this HTTP/1.1"), "400 target").but(FRAGMENT),
    alike("a fragment alone", line!("GET # HTTP/1.1"), "400 target"),
    alike("a fragment of an absolute one", line!("GET http://b/#f HTTP/1.1"), "400 target")
        .but(FRAGMENT),
    alike("beyond ASCII", line!("GET /\u{e4} HTTP/1.1"), "400 target").but(NO_URI),
    alike("a NUL", line!("GET /\0 HTTP/1.1"), "400 target"),
    alike("a control", line!("GET /\u{1} HTTP/1.1"), "400 target"),
    alike("a DEL", line!("GET /\u{7f} HTTP/1.1"), "400 target"),
    alike("a tab", line!("GET /\ta HTTP/1.1"), "400 target"),
    alike("a CR", line!("GET /\ra HTTP/1.1"), "400 request-line"),
    alike("a LF", line!("GET /\na HTTP/1.1"), "400 request-line"),
    alike("a blank", line!("GET /a b HTTP/1.1"), "400 request-line"),
    alike("an absolute one", line!("GET http://c.example/a HTTP/1.1"), "GET http://c.example/a"),
    alike(
        "an absolute one without a path",
        line!("GET http://c.example HTTP/1.1"),
        "GET http://c.example/",
    ),
    alike("with a query only", line!("GET http://c.example?a HTTP/1.1"), "GET http://c.example/?a"),
    alike("with TLS", line!("GET https://c.example/a HTTP/1.1"), "GET https://c.example/a"),
    alike("with a user", line!("GET http://u@c.example/a HTTP/1.1"), "GET http://u@c.example/a"),
    alike("in capitals", line!("GET HTTP://c.example/a HTTP/1.1"), "GET http://c.example/a"),
    alike("another scheme", line!("GET ftp://c.example/a HTTP/1.1"), "400 target").but(FORMS),
    alike("no authority", line!("GET http:///a HTTP/1.1"), "400 target"),
    alike("one slash", line!("GET http:/c.example/a HTTP/1.1"), "400 target"),
    alike("a host", line!("GET c.example HTTP/1.1"), "400 target").but(FORMS),
    alike("a host and a port", line!("GET c.example:80 HTTP/1.1"), "400 target").but(FORMS),
    alike("a path without its slash", line!("GET a/b HTTP/1.1"), "400 target"),
    alike("a query without a path", line!("GET ?a HTTP/1.1"), "400 target"),
    alike("an asterisk", line!("OPTIONS * HTTP/1.1"), "OPTIONS *"),
    alike("an asterisk for a GET", line!("GET * HTTP/1.1"), "400 target").but(FORMS),
    alike("two of them", line!("OPTIONS ** HTTP/1.1"), "400 target").but(FORMS),
    alike("an asterisk with a query", line!("OPTIONS *?a HTTP/1.1"), "400 target"),
    alike("CONNECT", line!("CONNECT c.example:443 HTTP/1.1"), "501 connect")
        .but("it leaves CONNECT to its caller"),
    alike("CONNECT to a path", line!("CONNECT / HTTP/1.1"), "501 connect")
        .but("it leaves CONNECT to its caller"),
    alike("a lower-case CONNECT", line!("connect / HTTP/1.1"), "connect /"),
    alike("an unknown method", line!("BREW /pot HTTP/1.1"), "BREW /pot"),
    alike("an odd method", line!("!#$%&'*+-.^_`|~9 / HTTP/1.1"), "!#$%&'*+-.^_`|~9 /"),
    alike("a method that is none", line!("G(T / HTTP/1.1"), "400 request-line"),
    alike("a method beyond ASCII", line!("G\u{c9}T / HTTP/1.1"), "400 request-line"),
    alike("no method", line!(" / HTTP/1.1"), "400 request-line"),
    alike("no target", line!("GET HTTP/1.1"), "400 request-line"),
    alike("no target between two blanks", line!("GET  HTTP/1.1"), "400 request-line"),
    alike("two blanks before the target", line!("GET  / HTTP/1.1"), "400 request-line"),
    alike("two blanks behind the target", line!("GET /  HTTP/1.1"), "400 request-line"),
    alike("a blank behind the version", line!("GET / HTTP/1.1 "), "400 request-line"),
    alike("tabs", line!("GET\t/\tHTTP/1.1"), "400 request-line"),
];

pub(super) const VERSIONS: &[OddRequest] = &[
    alike("0.9", "GET /\r\n", "400 request-line"),
    alike("0.9 with fields", "GET /\r\nHost: b\r\n\r\n", "400 request-line"),
    alike("0.9, said", line!("GET / HTTP/0.9"), "505 version"),
    alike("1.0", "GET / HTTP/1.0\r\n\r\n", "GET / | end"),
    alike("1.2", line!("GET / HTTP/1.2"), "505 version"),
    alike("1.10", line!("GET / HTTP/1.10"), "400 request-line"),
    alike("1.1 and a letter", line!("GET / HTTP/1.1a"), "400 request-line"),
    alike("01.1", line!("GET / HTTP/01.1"), "400 request-line"),
    alike("1", line!("GET / HTTP/1"), "400 request-line"),
    alike("2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 version"),
    alike("3.0", line!("GET / HTTP/3.0"), "505 version"),
    alike("a word", line!("GET / HTTP/one"), "400 request-line"),
    alike("lower case", line!("GET / http/1.1"), "400 request-line"),
    alike("another protocol", line!("GET / ICY/1.1"), "400 request-line"),
    alike("no slash", line!("GET / HTTP 1.1"), "400 request-line"),
];
