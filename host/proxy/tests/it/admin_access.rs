//! The admin listener under people who mean it harm or take no notice: health is told all the same,
//! guesses are slow and seen, and changes have a name.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

use fusebox_dev::{Message, Origin, Ran, Wire, eventually, ok};
use serde_json::json;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::time::Instant;

use crate::support::{Proxy, ROUTE, fusebox, verdict};

const BREAKER: &str = "[policies.breaker]\nkind = 'circuit-breaker'\n\
    [[routes]]\nupstream = 'ORIGIN'\npolicies = ['breaker']\n";

const TOKEN: &str = "authorization: Bearer open sesame\r\n";

/// Asks the admin listener under this host, with these headers.
fn ask(proxy: &Proxy, request: &str, host: &str, headers: &str) -> Message {
    let mut wire = Wire::connect(proxy.admin_address()).expect("it listens");
    wire.ask(format!(
        "{request} HTTP/1.1\r\n{host}{headers}connection: close\r\ncontent-length: 0\r\n\r\n"
    ))
}

#[test]
fn health_is_told_however_many_connections_nobody_reads_or_uses() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, ROUTE);
    let mut held = Vec::new();
    for number in 0..200 {
        let mut wire = Wire::connect(proxy.admin_address()).expect("it listens");
        match number % 3 {
            0 => wire.send("GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n"),
            1 => wire.send("GET /met"),
            _ => {}
        }
        held.push(wire);
        if number % 50 == 49 {
            assert_eq!(proxy.admin("GET /healthz").status(), 200);
        }
    }
    assert_eq!(proxy.line("Admin connections crowded out")["count"], 1);
}

#[test]
fn health_is_told_to_all_of_a_flood_of_connections() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, ROUTE);
    // They are all there when the program goes on.
    proxy.signal("STOP");
    let wires = (0..120).map(|_| {
        let mut wire = Wire::connect(proxy.admin_address()).expect("there is room in the queue");
        wire.send("GET /healthz HTTP/1.1\r\nhost: b\r\n\r\n");
        wire
    });
    let wires: Vec<_> = wires.collect();
    proxy.signal("CONT");
    let answers = wires.into_iter().map(|mut wire| wire.head().map(|head| head.status()));
    assert_eq!(answers.collect::<Vec<_>>(), vec![Some(200); 120]);
}

/// Whether the program has its end of this connection open. What the kernel still has to send says
/// nothing of that.
#[cfg(target_os = "linux")]
fn holds(proxy: &Proxy, client: SocketAddr) -> bool {
    let port = |address: SocketAddr| format!(":{:04X}", address.port());
    let (own, others) = (port(proxy.admin_address()), port(client));
    let sockets = fs::read_to_string("/proc/net/tcp").expect("sockets");
    let fields = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let inode = fields
        .filter(|fields| fields[1].ends_with(&own) && fields[2].ends_with(&others))
        .find_map(|fields| fields.get(9).map(|inode| format!("socket:[{inode}]")));
    let Some(inode) = inode else { return false };
    let files = fs::read_dir(format!("/proc/{}/fd", proxy.id())).expect("it runs");
    files
        .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
        .any(|file| file.as_os_str() == &*inode)
}

#[cfg(target_os = "linux")]
#[test]
fn who_takes_nothing_of_an_answer_is_cut() {
    let origin = Origin::answering([ok("")]);
    let routes =
        (0..3000).map(|route| format!("[[routes]]\npath = '/{route}'\nupstream = 'ORIGIN'\n"));
    let proxy = Proxy::before(&origin, &routes.collect::<String>());
    let mut wire = Wire::connect(proxy.admin_address()).expect("it listens");
    wire.send("GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n");
    eventually("the connection", || holds(&proxy, wire.address()).then_some(()));
    eventually("its end", || (!holds(&proxy, wire.address())).then_some(()));
    let head = wire.head().expect("the head was sent");
    let length: usize = head.header("content-length").expect("a length").parse().expect("one");
    let came = wire.rest().len();
    assert!(came < length, "{came} of {length}");
}

#[test]
fn a_wrong_token_is_slow_and_seen() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, BREAKER);
    let start = Instant::now();
    for token in ["", "authorization: Bearer guess\r\n"] {
        assert_eq!(proxy.admin_with("POST /policies/breaker/open", token).status(), 401);
    }
    assert!(start.elapsed().as_millis() >= 200, "{:?}", start.elapsed());
    let line = proxy.line("Admin request denied: token");
    assert_eq!(
        (&line["level"], &line["client"], &line["request"], &line["count"]),
        (&json!("WARN"), &json!("127.0.0.1"), &json!("POST /policies/breaker/open"), &json!(1))
    );
    proxy.counts(&[(r#"fusebox_admin_denied_total{reason="token"}"#, 2.0)]);
}

#[test]
fn a_change_has_a_line_that_says_who() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, BREAKER);
    for (known, request, status) in [
        (0, "POST /policies/breaker/open", 200),
        (1, "POST /policies/breaker/shut", 404),
        (2, "POST /reload", 200),
    ] {
        assert_eq!(proxy.admin_with(request, TOKEN).status(), status);
        let line = proxy.line_after(known, "Admin change");
        assert_eq!(
            (&line["client"], &line["request"], &line["status"]),
            (&json!("127.0.0.1"), &json!(request), &json!(status))
        );
    }
    proxy.counts(&[("fusebox_admin_changes_total", 3.0)]);
}

#[test]
fn a_page_in_a_browser_reaches_nothing() {
    let origin = Origin::answering([ok("")]);
    let hosts = "listen = '127.0.0.1:0'\n[admin]\nlisten = '127.0.0.1:0'\ntoken_file = 'token'\n\
                 hosts = ['fusebox.internal']\n";
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("token"), "open sesame\n").expect("a file");
    let config = format!("{hosts}{}", BREAKER.replace("ORIGIN", &origin.to_string()));
    let proxy = Proxy::run(directory, &config);
    let rebound = "host: evil.example\r\n";
    for open in ["GET /healthz", "GET /readyz", "GET /metrics"] {
        assert_eq!(ask(&proxy, open, rebound, "").status(), 200, "{open}");
    }
    for closed in ["GET /state", "POST /policies/breaker/open", "GET /"] {
        for host in [rebound, "", "host: fusebox.internal.evil.example\r\n"] {
            assert_eq!(ask(&proxy, closed, host, TOKEN).status(), 403, "{closed} {host}");
        }
    }
    let local = "host: localhost\r\n";
    for foreign in ["http://evil.example", "null", "https://evil.example:9901"] {
        let headers = format!("origin: {foreign}\r\n{TOKEN}");
        for request in ["GET /state", "GET /metrics", "POST /policies/breaker/open"] {
            assert_eq!(ask(&proxy, request, local, &headers).status(), 403, "{foreign}");
        }
    }
    assert_eq!(proxy.state()["policies"]["breaker"]["state"], "closed");
    for host in [local, "host: [::1]:9901\r\n", "host: Fusebox.Internal:9901\r\n"] {
        assert_eq!(ask(&proxy, "GET /state", host, "").status(), 200, "{host}");
        let origin = format!("{}{TOKEN}", host.replace("host: ", "origin: http://"));
        assert_eq!(ask(&proxy, "POST /policies/breaker/open", host, &origin).status(), 200);
    }
    proxy.line("Admin request denied: host");
    proxy.counts(&[
        (r#"fusebox_admin_denied_total{reason="host"}"#, 9.0),
        (r#"fusebox_admin_denied_total{reason="origin"}"#, 9.0),
    ]);
}

fn on_a_socket(origin: &Origin) -> String {
    format!(
        "listen = '127.0.0.1:0'\n\
         admin = {{ listen = 'unix:admin.sock', token_file = 'token' }}\n{}",
        BREAKER.replace("ORIGIN", &origin.to_string())
    )
}

fn client(directory: &Path, command: &str) -> Ran {
    let token = directory.join("token").display().to_string();
    let admin = format!("unix:{}", directory.join("admin.sock").display());
    fusebox(directory, &[command, "--admin", &admin, "--token-file", &token])
}

#[test]
fn a_unix_socket_is_for_this_user_only_and_ends_with_the_program() {
    let origin = Origin::answering([ok("")]);
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("token"), "open sesame\n").expect("a file");
    let socket = directory.path().join("admin.sock");
    // What a program left that was killed.
    drop(UnixListener::bind(&socket).expect("a socket"));
    let mut proxy = Proxy::spawn(directory, &on_a_socket(&origin));
    let said = proxy.line("listening")["admin"].clone();
    assert!(said.as_str().is_some_and(|said| said.ends_with("admin.sock")), "{said}");
    let found = fs::metadata(&socket).expect("a socket");
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);

    let ran = client(proxy.path("").as_path(), "reload");
    assert_eq!((ran.code, &*ran.error), (Some(0), ""), "{ran:?}");
    let line = proxy.line("Admin change");
    let who = line["client"].as_str().expect("a text");
    assert!(who.starts_with("user ") && who.contains(", process "), "{who}");
    assert_eq!((&line["request"], &line["status"]), (&json!("POST /reload"), &json!(200)));

    proxy.signal("TERM");
    assert_eq!(proxy.end().code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn a_socket_that_somebody_uses_is_not_taken_away() {
    let origin = Origin::answering([ok("")]);
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("fusebox.toml"), on_a_socket(&origin)).expect("a file");
    let socket = directory.path().join("admin.sock");
    let _used = UnixListener::bind(&socket).expect("a socket");
    let ran = fusebox(directory.path(), &["run"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.error.contains("admin.listen: can't listen on `unix:admin.sock`"), "{ran:?}");
    assert!(socket.exists());
}

/// A socket whose listener accepts nothing, and has as many connections as wait for it.
#[cfg(target_os = "linux")]
#[test]
fn a_socket_of_somebody_who_hangs_does_not_hold_up_the_start() {
    let origin = Origin::answering([ok("")]);
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("fusebox.toml"), on_a_socket(&origin)).expect("a file");
    let address = SockAddr::unix(directory.path().join("admin.sock")).expect("an address");
    let socket = || Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    let hanging = socket();
    hanging.bind(&address).expect("a free path");
    hanging.listen(0).expect("a socket");
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let client = socket();
            client.set_nonblocking(true).expect("a socket");
            let connected = client.connect(&address).is_ok();
            (client, connected)
        })
        .collect();
    assert!(waiting.iter().any(|(_, connected)| !connected), "the queue is full");
    let ran = fusebox(directory.path(), &["run"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.error.contains("admin.listen: can't listen on `unix:admin.sock`"), "{ran:?}");
}

#[test]
fn a_socket_that_has_taken_its_place_is_left() {
    let origin = Origin::answering([ok("")]);
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("token"), "open sesame\n").expect("a file");
    let socket = directory.path().join("admin.sock");
    let mut proxy = Proxy::spawn(directory, &on_a_socket(&origin));
    proxy.line("listening");
    fs::remove_file(&socket).expect("a socket");
    let _another = UnixListener::bind(&socket).expect("a free path");
    proxy.signal("TERM");
    assert_eq!(proxy.end().code(), Some(0));
    assert!(socket.exists());
}

#[test]
fn what_opens_the_admin_listener_to_others_is_a_warning() {
    let directory = tempfile::tempdir().expect("a directory");
    let (token, config) = (directory.path().join("token"), directory.path().join("fusebox.toml"));
    let check = |listen: &str, text: &str, mode| {
        fs::write(&token, text).expect("a file");
        fs::set_permissions(&token, fs::Permissions::from_mode(mode)).expect("a file");
        let admin = format!("[admin]\nlisten = '{listen}'\ntoken_file = 'token'\n");
        let routes = "[[routes]]\nupstream = 'http://b'\n";
        fs::write(&config, format!("listen = '127.0.0.1:0'\n{admin}{routes}")).expect("a file");
        let ran = fusebox(directory.path(), &["check"]);
        assert_eq!((ran.code, verdict(&ran.out)), (Some(0), "fusebox.toml: ok"));
        ran.error.replace("warning: fusebox.toml:", "")
    };
    let long = "0123456789abcdef\n";
    for listen in ["127.0.0.1:9901", "[::1]:9901", "unix:/run/fusebox/admin.sock"] {
        assert_eq!(check(listen, long, 0o600), "");
    }
    assert_eq!(
        check("0.0.0.0:9901", long, 0o600),
        "3: admin.listen: whoever can reach `0.0.0.0:9901` can read everything there\n"
    );
    assert_eq!(
        check("127.0.0.1:9901", long, 0o640),
        "4: admin.token_file: others may use it: its mode is 640, expected 600\n"
    );
    assert_eq!(
        check("127.0.0.1:9901", "guess\n", 0o600),
        "4: admin.token_file: the token can be guessed: it has 5 bytes, expected at least 16\n"
    );
}
