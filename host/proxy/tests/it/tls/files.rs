//! What is wrong with the files of certificates, as `fusebox check` says it.

use std::fs;

use fusebox_dev::Authority;

use crate::support::fusebox;

/// Writes the files and a configuration with this table, and checks it: what it complains of.
#[track_caller]
fn complaints(files: &[(&str, &str)], table: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, content) in files {
        fs::write(directory.path().join(name), content).expect("a file");
    }
    let config = format!(
        "listen = '127.0.0.1:0'\n[[routes]]\nupstream = 'http://127.0.0.1:1'\n\
         [listener.tls]\n{table}"
    );
    fs::write(directory.path().join("fusebox.toml"), config).expect("a file");
    fusebox(directory.path(), &["check", "fusebox.toml"]).error
}

/// A route whose clients are known by their certificates.
const CLIENT: &str = "[[routes]]\npath = '/a'\nupstream = 'http://b'\nclient_certificate = ";

const PAIR: &str = "certificates = [{ cert = 'b.pem', key = 'b.key' }]\n";

#[test]
fn each_wrong_file_is_told_with_its_line() {
    let authority = Authority::new("ours");
    let b = authority.issue("b", &["b.example"]);
    let other = authority.issue("other", &["b.example"]);
    let [cert, key] = [&*b.cert, &*b.key];
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let unended = cert.replace("-----END CERTIFICATE-----", "");
    let nonsense = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let no_key = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    for (b_pem, b_key, path, message) in [
        ("", key, "cert", "`b.pem` is empty"),
        (" \n", key, "cert", "`b.pem` is empty"),
        (key, key, "cert", "`b.pem` has no certificate: it has a private key"),
        ("hello", key, "cert", "`b.pem` is not PEM: expected a section such as"),
        (
            &*unended,
            key,
            "cert",
            "`b.pem` is not valid PEM: `-----END CERTIFICATE-----` is missing",
        ),
        (nonsense, key, "cert", "the first section of `b.pem` is not a certificate"),
        (cert, "", "key", "`b.key` is empty"),
        (cert, cert, "key", "`b.key` has no private key: it has a certificate"),
        (cert, &*other.key, "key", "`b.key` is not the key of `b.pem`"),
        (
            cert,
            encrypted,
            "key",
            "the key in `b.key` is encrypted: expected one that needs no passphrase",
        ),
        (cert, no_key, "key", "the key in `b.key` can't be used"),
    ] {
        let said = complaints(&[("b.pem", b_pem), ("b.key", b_key)], PAIR);
        let expected = format!("fusebox.toml:5: listener.tls.certificates[0].{path}: {message}");
        assert!(said.starts_with(&expected), "expected {expected}\nfound {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let said = complaints(&[("b.pem", cert)], PAIR);
    assert!(said.contains("[0].key: `b.key` can't be read: No such file or directory\n"), "{said}");
    let good = [("b.pem", cert), ("b.key", key), ("ca.pem", authority.pem())];
    assert_eq!(complaints(&good, &format!("{PAIR}client_ca = 'ca.pem'\n")), "");
    for (ca, message) in [
        ("b.key", "`b.key` has no certificate: it has a private key"),
        ("none.pem", "`none.pem` can't be read: No such file or directory"),
    ] {
        let said = complaints(&good, &format!("{PAIR}client_ca = '{ca}'\n"));
        assert_eq!(said, format!("fusebox.toml:6: listener.tls.client_ca: {message}\n"));
    }
}

#[test]
fn each_wrong_key_is_told_with_its_line() {
    for (table, message) in [
        ("", "listener.tls.certificates: missing; expected a list such as [{ cert = \"b.pem\""),
        ("certificates = []\n", "listener.tls.certificates: is empty; expected a list such as"),
        (
            "certificates = 'b.pem'\n",
            "listener.tls.certificates: expected a list, found `\"b.pem\"`",
        ),
        (
            "certificates = [{ cert = 'b.pem' }]\n",
            "listener.tls.certificates[0].key: missing; expected the name of the file of its \
             private key",
        ),
        (
            "certificates = [{ cert = '', key = 'b.key' }]\n",
            "listener.tls.certificates[0].cert: expected the name of the file of a certificate",
        ),
        (
            "certificates = [{ cert = 'b.pem', key = 'b.key', name = 'b' }]\n",
            "listener.tls.certificates[0].name: unknown key `name`; expected one of cert, key",
        ),
        (&format!("{PAIR}min_version = '1.1'\n"), "listener.tls.min_version: unknown value"),
        (&format!("{PAIR}min_version = 1.2\n"), "listener.tls.min_version: "),
        (&format!("{PAIR}client_auth = 'maybe'\n"), "listener.tls.client_auth: unknown value"),
        (
            &format!("{PAIR}client_auth = 'required'\n"),
            "listener.tls.client_auth: needs `client_ca`",
        ),
        (&format!("{PAIR}forward_client_cert = true\n"), "listener.tls.forward_client_cert: needs"),
        (
            &format!("{PAIR}session_tickets = 'off'\n"),
            "listener.tls.session_tickets: expected true or false",
        ),
        (&format!("{PAIR}strict_sni = 1\n"), "listener.tls.strict_sni: expected true or false"),
        (
            &format!("{PAIR}{CLIENT}['spiffe://example/a']\n"),
            "routes[1].client_certificate[0]: expected a name such as \
             \"URI:spiffe://example/a\" or \"DNS:a.example\", or a subject such as \"CN=a\", \
             found `spiffe://example/a`",
        ),
        (
            &format!("{PAIR}{CLIENT}['CN=a']\n"),
            "routes[1].client_certificate: needs `client_ca` in `[listener.tls]`",
        ),
        (&format!("{PAIR}max_handshakes = 0\n"), "listener.tls.max_handshakes: must be from 1 to"),
    ] {
        let authority = Authority::new("ours");
        let b = authority.issue("b", &["b.example"]);
        let said = complaints(&[("b.pem", &b.cert), ("b.key", &b.key)], table);
        assert!(said.contains(message), "expected {message}\nfound {said}");
    }
}

#[test]
fn a_certificate_that_expires_is_a_warning() {
    let authority = Authority::new("ours");
    let days = |count: i32| {
        rcgen::date_time_ymd(1970, 1, 1) + DAY * u32::try_from(today() + count).expect("a day")
    };
    const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);
    for (from, until, remark) in [
        (-30, -1, Some("has expired, on ")),
        (-80, 10, Some("expires soon, on ")),
        (-60, 30, None),
        // Of a short life a part is left.
        (-1, 6, None),
        (-6, 1, Some("expires soon, on ")),
        (1, 90, Some("is not valid before ")),
    ] {
        let issued = authority.issue_with("b", &["b.example"], |params| {
            (params.not_before, params.not_after) = (days(from), days(until));
        });
        let said = complaints(&[("b.pem", &issued.cert), ("b.key", &issued.key)], PAIR);
        match remark {
            Some(remark) => {
                let place = "warning: fusebox.toml:5: listener.tls.certificates[0].cert: `b.pem`";
                assert!(said.starts_with(&format!("{place} {remark}")), "{from} {until}: {said}");
            }
            None => assert_eq!(said, "", "{from} {until}"),
        }
    }
}

fn today() -> i32 {
    let days = jiff::Timestamp::now().as_second() / (24 * 60 * 60);
    i32::try_from(days).expect("a day")
}
