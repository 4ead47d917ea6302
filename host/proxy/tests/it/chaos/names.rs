//! What becomes of the name whose addresses are an upstream's endpoints.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::thread;

use fusebox_dev::{NXDOMAIN, NameServer, Origin, SERVFAIL, Says, eventually, get, local, ok};
use serde_json::Value;

use crate::support::Proxy;

/// What happens to a name of 127.0.0.1 and 127.0.0.2.
fn changes() -> [(&'static str, Says); 7] {
    [
        ("moves to 127.0.0.3", of(&[3])),
        ("has 127.0.0.3 besides", of(&[1, 2, 3])),
        ("is 127.0.0.2 only", of(&[2])),
        ("vanishes: there is no such name", Says::Code(NXDOMAIN)),
        ("has no addresses any more", Says::Nothing),
        ("is known to nobody: the name server fails", Says::Code(SERVFAIL)),
        ("is 0.0.0.0", Says::Addresses(vec![[0, 0, 0, 0].into()])),
    ]
}

fn of(addresses: &[u8]) -> Says {
    Says::Addresses(addresses.iter().map(|last| local(*last)).collect())
}

/// Copies at three addresses and the same port.
fn copies() -> [Origin; 3] {
    let bind = |last, port| TcpListener::bind((local(last), port));
    let listeners = eventually("the same port at all of them", || {
        let first = bind(1, 0).ok()?;
        let port = first.local_addr().ok()?.port();
        Some([first, bind(2, port).ok()?, bind(3, port).ok()?])
    });
    listeners.map(|listener| {
        let own = listener.local_addr().expect("an address").ip().to_string();
        Origin::on(listener, move |connection| {
            while connection.request().is_some() && connection.wire.try_send(ok(&own)).is_ok() {}
        })
    })
}

fn upstream(origin: &Origin, server: &NameServer) -> String {
    let port = origin.address().port();
    format!(
        "workers = 1\n[upstreams.b]\nbalance = 'round-robin'\n\
         endpoints = {{ dns = 'b.test:{port}', resolver = '{server}' }}\n\
         [[routes]]\nupstream = 'b'\n"
    )
}

/// Who answers six requests, one after the other: addresses, or statuses of failures.
fn answering(proxy: &Proxy) -> BTreeSet<String> {
    let mut wire = proxy.connect();
    let ask = |at: u32| {
        let answer = wire.ask(get("/", &format!("ask-{at}")));
        if answer.status() == 200 { answer.text().to_owned() } else { answer.status().to_string() }
    };
    (0..6).map(ask).collect()
}

/// What is known of the name: its addresses, and why it could not be looked up the last time.
fn known(proxy: &Proxy) -> (BTreeSet<String>, String) {
    let upstream = &proxy.state()["upstreams"][0];
    let endpoints = upstream["endpoints"].as_array().expect("a list").iter();
    let host = |endpoint: &Value| {
        let url = endpoint["url"].as_str().expect("a URL").trim_start_matches("http://");
        url.rsplit_once(':').expect("a port").0.to_owned()
    };
    let problem = upstream["dns"]["problem"].as_str().unwrap_or_default();
    // What the name server says is in the words of a library.
    let problem = problem.split(&[':', ';'][..]).next().unwrap_or_default();
    (endpoints.map(host).collect(), problem.to_owned())
}

/// What a name comes to that was good, or was never known.
fn row(name: &str, says: &Says, was_good: bool) -> String {
    let copies = copies();
    let first = if was_good { of(&[1, 2]) } else { says.clone() };
    let server = NameServer::start(first, Says::Nothing, 1);
    let proxy = Proxy::before(&"", &upstream(&copies[0], &server));
    if was_good {
        let before =
            eventually("its addresses", || Some(known(&proxy)).filter(|it| !it.0.is_empty()));
        server.says(says.clone(), says_of_ipv6(says));
        eventually("a change", || (known(&proxy) != before).then_some(()));
    }
    let answers = answering(&proxy);
    let (endpoints, problem) = known(&proxy);
    let list = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(", ");
    let text = format!("| {name} | {} | {} | {problem} |", list(answers), list(endpoints));
    text.replace("  ", " ")
}

/// Errors are of the name, whatever is asked.
fn says_of_ipv6(says: &Says) -> Says {
    match says {
        Says::Code(_) => says.clone(),
        _ => Says::Nothing,
    }
}

/// The table of all of them.
pub(super) fn table() -> String {
    let never = ("was never known", Says::Code(NXDOMAIN));
    let rows = changes().into_iter().map(|change| (change, true)).chain([(never, false)]);
    let rows: Vec<_> = thread::scope(|scope| {
        let running =
            rows.map(|((name, says), was_good)| scope.spawn(move || row(name, &says, was_good)));
        let running: Vec<_> = running.collect();
        running.into_iter().map(|row| row.join().expect("no panic")).collect()
    });
    let head = "| the name | requests are answered by | endpoints | why it is not looked up |";
    format!("{head}\n|---|---|---|---|\n{}", rows.join("\n"))
}
