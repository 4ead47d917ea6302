//! Which route takes a request.

use fusebox_dev::{Origin, get, ok};

use crate::support::Proxy;

/// Says which request came to it.
fn named(name: &'static str) -> Origin {
    Origin::start(move |connection| {
        while connection.request().is_some() {
            connection.wire.send(ok(name));
        }
    })
}

#[test]
fn the_longest_prefix_at_a_slash_takes_it() {
    let (root, api, deep) = (named("root"), named("api"), named("deep"));
    let config = format!(
        "[[routes]]\nupstream = '{root}'\n[[routes]]\npath = '/api/'\nupstream = '{api}'\n\
         [[routes]]\npath = '/api/v2'\nupstream = '{deep}'\n"
    );
    let proxy = Proxy::before(&root, &config);
    for (path, name) in [
        ("/", "root"),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api?x=/api/v2", "api"),
        ("/apiary", "root"),
        ("/api/v", "api"),
        ("/api/v2", "deep"),
        ("/api/v2/x", "deep"),
        ("/api/v20", "api"),
        ("/API", "root"),
        ("http://c.example/api/v2", "deep"),
    ] {
        assert_eq!(proxy.ask(get(path, "1")).text(), name, "{path}");
    }
}

/// A program behind may take each for the same path.
#[test]
fn a_path_has_the_same_route_however_it_is_spelled() {
    let (root, admin) = (named("root"), named("admin"));
    let config = |paths: &str| {
        format!(
            "listener = {{ paths = '{paths}' }}\n[[routes]]\nupstream = '{root}'\n\
             [[routes]]\npath = '/admin/ä'\nupstream = '{admin}'\n"
        )
    };
    let proxy = Proxy::before(&root, &config("strict"));
    let spelled = [
        "/admin/%C3%A4",
        "/%61dmin/%c3%a4?x",
        "//admin///%C3%A4/x",
        "/admin%2F%C3%A4",
        "/admin%5c%C3%A4",
        "/admin;v=1/%C3%A4;w",
        "/;/admin/%C3%A4%2Fx",
    ];
    for path in spelled {
        assert_eq!(proxy.ask(get(path, "1")).text(), "admin", "{path}");
        // Nothing is rewritten.
        let seen = admin.seen().pop().expect("a request").request;
        assert_eq!(seen.start, format!("GET {path} HTTP/1.1"));
    }
    for path in ["/Admin/%C3%A4", "/%2561dmin/%C3%A4", "/admin/%C3%A4x", "/admin"] {
        assert_eq!(proxy.ask(get(path, "1")).text(), "root", "{path}");
    }
    let written = config("as-is").replace('ä', "%C3%A4");
    let proxy = Proxy::before(&root, &written);
    for (path, name) in [(spelled[0], "admin"), (spelled[1], "root"), (spelled[2], "root")] {
        assert_eq!(proxy.ask(get(path, "1")).text(), name, "{path}");
    }
}

#[test]
fn a_host_comes_before_a_path_and_methods_come_last() {
    let (any, host, posts) = (named("any"), named("host"), named("posts"));
    let config = format!(
        "[[routes]]\npath = '/a/long/path'\nupstream = '{any}'\n\
         [[routes]]\nhost = 'B.example'\nupstream = '{host}'\n\
         [[routes]]\nhost = 'b.example'\nmethods = ['POST', 'PUT']\nupstream = '{posts}'\n"
    );
    let proxy = Proxy::before(&any, &config);
    let ask = |method: &str, host: &str, path: &str| {
        proxy.ask(format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\n\r\n"))
    };
    assert_eq!(ask("GET", "b.example", "/a/long/path").text(), "host");
    assert_eq!(
        ask("GET", "b.EXAMPLE:8080", "/a/long/path").text(),
        "host",
        "without port, in any case"
    );
    assert_eq!(ask("PUT", "b.example", "/x").text(), "posts");
    assert_eq!(ask("GET", "c.example", "/a/long/path").text(), "any");
    let nowhere = ask("GET", "c.example", "/a/long");
    assert_eq!(nowhere.status(), 404);
    assert_eq!(nowhere.header("content-type"), Some("application/problem+json"));
    let proxy_status = "fusebox; error=destination_not_found; details=\"no route\"";
    assert_eq!(nowhere.header("proxy-status"), Some(proxy_status));
}

#[test]
fn a_request_that_no_route_takes_is_counted_and_its_connection_lives() {
    let origin = named("b");
    let proxy = Proxy::before(
        &origin,
        "[[routes]]\npath = '/api'\nmethods = ['GET']\nupstream = 'ORIGIN'\n",
    );
    let mut client = proxy.connect();
    assert_eq!(client.ask(get("/other", "1")).status(), 404);
    assert_eq!(client.ask("DELETE /api HTTP/1.1\r\nhost: b\r\n\r\n").status(), 404);
    assert_eq!(client.ask("OPTIONS /apix HTTP/1.1\r\nhost: b\r\n\r\n").status(), 404);
    assert_eq!(client.ask(get("/api", "2")).text(), "b");
    proxy.counts(&[
        (r#"fusebox_requests_total{route="none",status="404"}"#, 3.0),
        (r#"fusebox_requests_total{route="GET /api",status="200"}"#, 1.0),
    ]);
}

#[test]
fn a_route_has_the_name_that_it_is_given() {
    let origin = named("b");
    let proxy = Proxy::before(&origin, "[[routes]]\nname = 'the \"b\"'\nupstream = 'ORIGIN'\n");
    assert_eq!(proxy.ask(get("/", "1")).status(), 200);
    let line = &proxy.story("1")[0];
    assert_eq!(
        (&line["route"], &line["request"]["route"]),
        (&"the \"b\"".into(), &"the \"b\"".into())
    );
    proxy.counts(&[(r#"fusebox_requests_total{route="the \"b\"",status="200"}"#, 1.0)]);
    assert_eq!(proxy.state()["routes"][0]["name"], "the \"b\"");
}
