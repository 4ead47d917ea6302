//! Endpoints that are asked for their health by gRPC.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fusebox_dev::{H2Exchange, H2Origin, eventually};
use http::{HeaderMap, HeaderValue, Response};
use serde_json::Value;

use crate::support::Proxy;

/// What an endpoint answers: the bytes of a message, or a status of gRPC.
#[derive(Clone, Copy, Debug)]
enum Health {
    Says(&'static [u8]),
    Fails(&'static str),
}

const SERVING: Health = Health::Says(b"\0\0\0\0\x02\x08\x01");
const NOT_SERVING: Health = Health::Says(b"\0\0\0\0\x02\x08\x02");

/// An endpoint whose health can be changed.
fn endpoint(health: Health) -> (H2Origin, Arc<Mutex<Health>>) {
    let health = Arc::new(Mutex::new(health));
    let now = health.clone();
    let origin = H2Origin::start(move |exchange| {
        let now = *now.lock().unwrap();
        answer(exchange, now)
    });
    (origin, health)
}

async fn answer(mut exchange: H2Exchange, health: Health) {
    exchange.receive().await;
    let mut head = Response::new(());
    head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    match health {
        Health::Says(message) => {
            let mut stream = exchange.answer(head, false);
            stream.send_data(Bytes::from_static(message), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            stream.send_trailers(trailers).unwrap();
        }
        Health::Fails(status) => {
            head.headers_mut().insert("grpc-status", HeaderValue::from_static(status));
            exchange.answer(head, true);
        }
    }
}

/// Its endpoints are checked all the time, for this service.
fn before(endpoints: [&H2Origin; 2], service: &str) -> Proxy {
    let [first, second] = endpoints;
    let config = format!(
        "workers = 1\n[upstreams.b]\nendpoints = ['{first}', '{second}']\nprotocol = 'http2'\n\
         health = {{ grpc = '{service}', interval = '10ms' }}\n[[routes]]\nupstream = 'b'\n"
    );
    Proxy::before(&"", &config)
}

/// Waits until the endpoints stand so.
fn stand(proxy: &Proxy, expected: [&str; 2]) {
    eventually("their states", || {
        let state = proxy.state();
        let endpoints = state["upstreams"][0]["endpoints"].as_array()?;
        let states: Vec<_> = endpoints.iter().map(|endpoint| &endpoint["state"]).collect();
        (states == expected.map(Value::from).iter().collect::<Vec<_>>()).then_some(())
    });
}

#[test]
fn one_that_does_not_serve_gets_no_requests_until_it_does() {
    let ((first, health), (second, _)) = (endpoint(SERVING), endpoint(SERVING));
    let proxy = before([&first, &second], "example.Orders");
    eventually("checks", || (first.seen().len() > 2).then_some(()));
    stand(&proxy, ["in", "in"]);
    *health.lock().unwrap() = NOT_SERVING;
    stand(&proxy, ["down", "in"]);
    let down = proxy.line("Endpoint down: its checks fail");
    assert_eq!(down["reason"], "answered NOT_SERVING");
    *health.lock().unwrap() = SERVING;
    stand(&proxy, ["in", "in"]);

    let asked = first.seen().swap_remove(0);
    assert_eq!(asked.head.uri.path(), "/grpc.health.v1.Health/Check");
    assert_eq!(asked.head.method, "POST");
    assert_eq!(asked.body, b"\0\0\0\0\x10\x0a\x0eexample.Orders");
    let told = ["content-type", "te", "user-agent"].map(|name| asked.header(name));
    assert_eq!(told, [Some("application/grpc"), Some("trailers"), Some("fusebox")]);
}

#[test]
fn one_that_does_not_tell_has_not_passed() {
    for (status, reason) in [
        ("12", "answered unimplemented: it does not tell its health"),
        ("5", "answered not-found: it does not know the service"),
    ] {
        let ((first, _), (second, _)) = (endpoint(Health::Fails(status)), endpoint(SERVING));
        let proxy = before([&first, &second], "");
        stand(&proxy, ["down", "in"]);
        assert_eq!(proxy.line("Endpoint down: its checks fail")["reason"], reason);
        let checked = eventually("a check", || second.seen().first().cloned());
        assert_eq!(checked.body, [0; 5]);
    }
}
