//! Which certificate a client gets, and how they are replaced.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use fusebox_dev::{Authority, Issued, Origin, Wire, eventually, get, ok};

use super::{SecuredProxy, own, replace, shown};
use crate::support::{Proxy, ROUTE};

#[test]
fn the_name_that_a_client_asks_for_chooses_the_certificate() {
    let origin = Origin::answering([ok("")]);
    let authority = Authority::new("ours");
    let certificates = [
        authority.issue("first", &["a.example", "a.d.example", "127.0.0.1"]),
        authority.issue("second", &["b.example"]),
        authority.issue("third", &["*.c.example", "*.d.example"]),
    ];
    let names = ["a", "b", "c"];
    let files: Vec<(String, &[u8])> = names
        .iter()
        .zip(&certificates)
        .flat_map(|(name, Issued { cert, key })| {
            [(format!("{name}.pem"), cert.as_bytes()), (format!("{name}.key"), key.as_bytes())]
        })
        .collect();
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    let tables = names.map(|name| {
        format!("[[listener.tls.certificates]]\ncert = '{name}.pem'\nkey = '{name}.key'\n")
    });
    let proxy = Proxy::with_files(&origin, &files, &format!("{}{ROUTE}", tables.concat()));
    let client = Arc::new(authority.client(None));
    for (name, expected) in [
        ("a.example", 0),
        ("b.example", 1),
        ("B.Example", 1),
        ("x.c.example", 2),
        ("y.d.example", 2),
        // A whole name is nearer than a pattern.
        ("a.d.example", 0),
        // Without a name, as for an address.
        ("127.0.0.1", 0),
    ] {
        let mut wire = proxy.connect().securing(&client, name).expect(name);
        assert_eq!(shown(&wire), own(&certificates[expected]), "{name}");
        assert_eq!(wire.ask(get("/", "1")).status(), 200, "{name}");
    }
    // A pattern stands for one label; what no certificate is for gets the first.
    for name in ["x.y.c.example", "elsewhere"] {
        let error = proxy.connect().securing(&client, name).expect_err(name).to_string();
        assert!(error.contains("a.example"), "{name}: {error}");
    }
    let state = proxy.state();
    let hosts: Vec<_> = state["certificates"].as_array().expect("a list").iter().collect();
    assert_eq!(hosts[2]["hosts"], serde_json::json!(["*.c.example", "*.d.example"]));
    assert_eq!((&hosts[0]["file"], &hosts[0]["subject"]), (&"a.pem".into(), &"CN=first".into()));
}

/// Asks on one connection after the other, and on one that stays, until it is told to end.
fn traffic(address: std::net::SocketAddr, authority: &Authority) -> impl FnOnce() -> usize + use<> {
    let client = Arc::new(authority.client(None));
    let ends = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicUsize::new(0));
    let (stop, count) = (ends.clone(), asked.clone());
    let connect = move || {
        let wire = Wire::connect(address).expect("it listens");
        wire.securing(&client, "b.example").expect("a handshake")
    };
    let mut kept = connect();
    let running = thread::spawn(move || {
        while !ends.load(Ordering::SeqCst) {
            assert_eq!(kept.ask(get("/", "kept")).status(), 200);
            assert_eq!(connect().ask(get("/", "new")).status(), 200);
            asked.fetch_add(1, Ordering::SeqCst);
        }
    });
    let so_far = count.clone();
    eventually("traffic", || (so_far.load(Ordering::SeqCst) > 3).then_some(()));
    move || {
        stop.store(true, Ordering::SeqCst);
        running.join().expect("no request failed");
        count.load(Ordering::SeqCst)
    }
}

#[test]
fn a_new_certificate_is_used_without_a_failed_request_and_a_bad_one_is_not() {
    let origin = Origin::answering([ok("")]);
    let SecuredProxy { proxy, authority, issued } = SecuredProxy::before(&origin, "");
    let client = Arc::new(authority.client(None));
    let connect = || proxy.connect().securing(&client, "b.example").expect("a handshake");
    let loads = |result: &str| {
        format!("fusebox_certificate_loads_total{{file=\"b.pem\",result=\"{result}\"}}")
    };
    let stop = traffic(proxy.address(), &authority);
    assert_eq!(shown(&connect()), own(&issued));

    let second = authority.issue("second", &["b.example"]);
    replace(&proxy, &[("b.pem", &second.cert), ("b.key", &second.key)]);
    assert_eq!(proxy.line("Certificate replaced")["file"], "b.pem");
    assert_eq!(shown(&connect()), own(&second));

    let elsewhere = authority.issue("elsewhere", &["b.example"]);
    let expired = authority.issue_with("expired", &["b.example"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 2, 1);
    });
    let message = "Certificate rejected: ";
    for (cert, key, reason) in [
        (&*elsewhere.cert, &*second.key, "`b.key` is not the key of `b.pem`"),
        ("", &*second.key, "`b.pem` is empty"),
        (&*expired.cert, &*expired.key, "`b.pem` has expired, on 2020-02-01 00:00 UTC"),
    ] {
        replace(&proxy, &[("b.key", key), ("b.pem", cert)]);
        assert_eq!(proxy.line(&format!("{message}{reason}"))["level"], "ERROR");
        assert_eq!(shown(&connect()), own(&second), "{reason}");
    }
    fs::remove_file(proxy.path("b.pem")).expect("a file");
    let reason = "`b.pem` can't be read: No such file or directory";
    let gone = proxy.line(&format!("{message}{reason}"));
    assert_eq!(gone["level"], "ERROR");
    assert_eq!(shown(&connect()), own(&second), "what is gone replaces nothing");
    let third = authority.issue("third", &["b.example"]);
    replace(&proxy, &[("b.key", &third.key), ("b.pem", &third.cert)]);
    eventually("the third", || (shown(&connect()) == own(&third)).then_some(()));
    assert!(stop() > 3);
    proxy.counts(&[(&loads("replaced"), 2.0), (&super::failed("left"), 0.0)]);
    assert!(proxy.lines("TLS handshake failed").is_empty());
}

#[test]
fn a_mounted_directory_that_swings_to_another_is_noticed() {
    let origin = Origin::answering([ok("")]);
    let authority = Authority::new("ours");
    let [old, new] = ["old", "new"].map(|name| authority.issue(name, &["b.example"]));
    // As Kubernetes mounts a secret: the names lead through a link that is replaced.
    let directory = tempfile::tempdir().expect("a directory");
    let mount = |name: &str, issued: &Issued| {
        let version = directory.path().join(name);
        fs::create_dir(&version).expect("a directory");
        fs::write(version.join("tls.crt"), &issued.cert).expect("a file");
        fs::write(version.join("tls.key"), &issued.key).expect("a file");
        symlink(name, directory.path().join("..data.new")).expect("a link");
        let data = directory.path().join("..data");
        fs::rename(directory.path().join("..data.new"), data).expect("a link");
    };
    mount("..1", &old);
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), directory.path().join(name)).expect("a link");
    }
    let at = directory.path().display();
    let config = format!(
        "[listener.tls]\ncertificates = [{{ cert = '{at}/tls.crt', key = '{at}/tls.key' }}]\n\
         {ROUTE}"
    );
    let proxy = Proxy::with_files(&origin, &[], &config);
    let client = Arc::new(authority.client(None));
    let connect = || proxy.connect().securing(&client, "b.example").expect("a handshake");
    assert_eq!(shown(&connect()), own(&old));
    mount("..2", &new);
    proxy.line("Certificate replaced");
    assert_eq!(shown(&connect()), own(&new));
}

#[test]
fn when_a_certificate_expires_is_a_metric() {
    let origin = Origin::answering([ok("")]);
    let authority = Authority::new("ours");
    let issued = authority.issue_with("b", &["b.example"], |params| {
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    });
    let files = [("b.pem", issued.cert.as_bytes()), ("b.key", issued.key.as_bytes())];
    let proxy = Proxy::with_files(&origin, &files, &format!("{}{ROUTE}", super::TLS));
    let series = "fusebox_certificate_expiry_timestamp_seconds{file=\"b.pem\"}";
    proxy.counts(&[(series, 2_208_988_800.0)]);
}
