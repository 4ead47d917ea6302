//! Requests that fusebox answers itself: `OPTIONS *`, and those that may go no further.

use fusebox_dev::{Message, Origin, ok};

use crate::support::{Proxy, ROUTE};

/// One that says how far it may go, if it does.
fn limited(method: &str, hops: &str) -> String {
    format!("{method} /x?y=1 HTTP/1.1\r\nhost: b\r\n{hops}\r\n")
}

fn ask(proxy: &Proxy, method: &str, hops: &str) -> Message {
    proxy.ask(limited(method, hops))
}

#[test]
fn options_for_all_is_answered_here_whatever_routes_there_are() {
    let origin = Origin::answering([ok("")]);
    for route in [ROUTE, "[[routes]]\npath = '/api'\nupstream = 'ORIGIN'\n"] {
        let proxy = Proxy::before(&origin, route);
        let mut client = proxy.connect();
        for id in ["1", "2"] {
            let asked = format!("OPTIONS * HTTP/1.1\r\nhost: b\r\nx-request-id: {id}\r\n\r\n");
            let answer = client.ask(asked);
            assert_eq!((answer.status(), answer.header("x-request-id")), (204, Some(id)));
            assert_eq!((answer.header("allow"), answer.header("content-length")), (None, None));
            assert_eq!(proxy.told(id), ["204: No Content"]);
        }
        proxy.counts(&[(r#"fusebox_requests_total{route="none",status="204"}"#, 2.0)]);
    }
    // What is wrong with it is told first.
    let proxy = Proxy::before(&origin, ROUTE);
    assert_eq!(proxy.ask("OPTIONS * HTTP/1.1\r\n\r\n").status(), 400);
    assert_eq!(origin.seen().len(), 0);
}

#[test]
fn options_and_trace_go_as_far_as_they_may() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, ROUTE);
    let huge = "9".repeat(30);
    for method in ["OPTIONS", "TRACE"] {
        for (said, told) in [
            ("2".to_owned(), Some("1")),
            ("1".to_owned(), Some("0")),
            ("010".to_owned(), Some("9")),
            (huge.clone(), Some("18446744073709551614")),
        ] {
            let before = origin.seen().len();
            let answer = ask(&proxy, method, &format!("max-forwards: {said}\r\n"));
            assert_eq!(answer.status(), 200);
            assert_eq!(origin.seen()[before].request.header("max-forwards"), told, "{said}");
        }
        let before = origin.seen().len();
        assert_eq!(ask(&proxy, method, "").status(), 200);
        assert_eq!(origin.seen()[before].request.header("max-forwards"), None);

        let before = origin.seen().len();
        let ended = ask(&proxy, method, "max-forwards: 0\r\n");
        assert_eq!(ended.status(), if method == "TRACE" { 200 } else { 204 });
        for odd in ["x", "", "-1", "+1", "0x1", "1, 2", "1\r\nmax-forwards: 1"] {
            let answer = ask(&proxy, method, &format!("max-forwards: {odd}\r\n"));
            assert_eq!(answer.status(), 400, "{odd}");
            assert!(answer.text().contains("max-forwards not valid"), "{}", answer.text());
        }
        assert_eq!(origin.seen().len(), before);
    }
    // It says nothing to other methods.
    assert_eq!(ask(&proxy, "GET", "max-forwards: 0\r\n").status(), 200);
    let seen = origin.seen();
    assert_eq!(seen.last().expect("one").request.header("max-forwards"), Some("0"));
    proxy.counts(&[(r#"fusebox_requests_refused_total{route="/",reason="max-forwards"}"#, 14.0)]);
}

#[test]
fn a_trace_that_ends_here_is_shown_without_what_may_be_a_secret() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, ROUTE);
    let secrets = "authorization: Basic eDp5\r\ncookie: a=1\r\nproxy-authorization: Basic eDp5\r\n\
                   x-api-key: 1\r\nx-forwarded-for: 10.0.0.7\r\n";
    let answer = ask(&proxy, "TRACE", &format!("{secrets}Via: 1.1 edge\r\nMax-Forwards: 0\r\n"));
    assert_eq!(answer.header("content-type"), Some("message/http"));
    assert_eq!(
        answer.text(),
        "TRACE /x?y=1 HTTP/1.1\r\nhost: b\r\nvia: 1.1 edge\r\nmax-forwards: 0\r\n\r\n"
    );
    assert_eq!(origin.seen().len(), 0);
}

#[test]
fn where_no_route_goes_nothing_is_answered() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, "[[routes]]\npath = '/api'\nupstream = 'ORIGIN'\n");
    assert_eq!(ask(&proxy, "TRACE", "max-forwards: 0\r\n").status(), 404);
}
