//! Whatever an upstream does, under each policy, over each protocol: what the client gets, how many
//! attempts are made, and what breakers, limiters and ejection take it for; and what becomes of
//! uploads that break off and of names that change. `docs/chaos.md` has the tables; every cell of
//! them is executed here.

mod faults;
mod http2_faults;
mod names;
mod uploads;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use fusebox_dev::{Origin, get, ok, post};
use serde_json::Value;

use crate::support::Proxy;
use faults::{Authorities, Fault, Timing};

/// What is around a breaker. The last two have none.
const COLUMNS: [&str; 8] = [
    "no policy",
    "timeout",
    "retry",
    "retry, POST",
    "fallback",
    "hedge",
    "limiter",
    "two endpoints",
];

const LIMITER: usize = 6;
const ENDPOINTS: usize = 7;

/// The policies of a column for faults of either timing.
fn policies(column: usize, timing: Timing) -> &'static [&'static str] {
    match (column, timing) {
        (0, _) => &[],
        (1, Timing::Fast) => &["long-limit"],
        (1, Timing::Slow) => &["short-limit"],
        (2 | 3 | ENDPOINTS, _) => &["retry"],
        (4, _) => &["fallback"],
        (5, Timing::Fast) => &["late-hedge"],
        (5, Timing::Slow) => &["early-hedge"],
        _ => &[],
    }
}

const POLICIES: &str = "workers = 1\nlog = { level = 'debug' }\n\
    [policies.long-limit]\nkind = 'timeout'\nlimit = '50s'\n\
    [policies.short-limit]\nkind = 'timeout'\nlimit = '2s'\n\
    [policies.retry]\nkind = 'retry'\nmax_retries = 1\ndelay = '1ms'\nbudget = 'none'\n\
    [policies.fallback]\nkind = 'fallback'\nrespond = { body = 'instead' }\n\
    [policies.late-hedge]\nkind = 'hedge'\ndelay = '50s'\nbudget = 'none'\n\
    [policies.early-hedge]\nkind = 'hedge'\ndelay = '1s'\nbudget = 'none'\n";

/// A fault in a column: its upstream, its breaker or limiter, and its route are its own.
struct Cell<'a> {
    fault: &'a Fault,
    column: usize,
    number: usize,
}

impl Cell<'_> {
    /// Its part of the configuration.
    fn config(&self, wells: &Wells) -> String {
        let (number, fault) = (self.number, self.fault);
        let url = fault.upstream.to_string();
        let is_secured = url.starts_with("https:");
        let endpoints = match self.column {
            ENDPOINTS => format!("'{url}', '{}'", wells.of(fault.protocol, is_secured)),
            _ => format!("'{url}'"),
        };
        let times = match fault.timing {
            Timing::Slow => {
                "connect_timeout = '3s'\nresponse_timeout = '3s'\nbody_timeout = '3s'\n"
            }
            Timing::Fast => "",
        };
        let tls =
            if is_secured { "tls = { ca = 'ca.pem', server_name = 'b.example' }\n" } else { "" };
        let (records, name) = match self.column {
            LIMITER => {
                // One result is enough, and the limit may grow.
                let kind = "kind = 'adaptive-limiter'\nmin_samples = 1\nmax_limit_factor = 1000\n\
                    window = { min = '1ms' }\n";
                (format!("[policies.p{number}]\n{kind}"), format!("'p{number}'"))
            }
            ENDPOINTS => (String::new(), String::new()),
            _ => {
                let kind =
                    "kind = 'circuit-breaker'\nfailure_threshold = 100\nfailure_capacity = 100\n";
                (format!("[policies.p{number}]\n{kind}"), format!("'p{number}'"))
            }
        };
        let around = policies(self.column, fault.timing).iter().map(|it| format!("'{it}'"));
        let all: Vec<_> = around.chain([name]).filter(|it| !it.is_empty()).collect();
        format!(
            "[upstreams.u{number}]\nendpoints = [{endpoints}]\nprotocol = '{}'\nmax_idle = 0\n\
             balance = 'round-robin'\nhealth = {{ consecutive = 1, base = '10m', max = '10m' }}\n\
             {times}{tls}{records}[[routes]]\npath = '/{number}'\nname = 'r{number}'\n\
             upstream = 'u{number}'\npolicies = [{}]\n",
            fault.protocol,
            all.join(", ")
        )
    }

    /// Asks once, and tells what the client got and how many attempts were made.
    fn ask(&self, proxy: &Proxy, id: &str) -> (String, u64) {
        let path = format!("/{}", self.number);
        let request = match self.column {
            3 => post("ask", id).replacen(" / ", &format!(" {path} "), 1),
            _ => get(&path, id),
        };
        let mut wire = proxy.connect();
        wire.send(request);
        let mut answer = wire.any_response();
        while answer.status() < 200 {
            answer = wire.any_response();
        }
        let line = proxy.story(id).pop().expect("an access line");
        let attempts = line["attempts"].as_u64().expect("a number");
        let is_instead = answer.text() == "instead";
        let what = match (answer.broken.is_some(), is_instead) {
            (true, _) => "broken",
            (_, true) => "instead",
            _ => "",
        };
        (format!("{} {what}", answer.status()).trim_end().to_owned(), attempts)
    }

    fn id(&self, number: usize) -> String {
        format!("{}-{number}", self.number)
    }

    /// Runs it; what is recorded is looked at later.
    fn run(&self, proxy: &Proxy) -> String {
        // A window of the limiter, and an endpoint of two, need more than one.
        let times = match self.column {
            LIMITER => 3,
            ENDPOINTS => 2,
            _ => 1,
        };
        let told = (0..times).map(|number| self.ask(proxy, &self.id(number)));
        let told: Vec<_> = told.collect();
        let (answer, attempts) = told.iter().max_by_key(|(_, attempts)| *attempts).expect("one");
        let worst = told.iter().map(|(answer, _)| answer).max().unwrap_or(answer);
        format!("{worst} ×{attempts}")
    }
}

/// Endpoints that are well.
struct Wells {
    http1: Origin,
    http2: Origin,
    secured: Origin,
    secured_http2: Origin,
}

impl Wells {
    fn new(authorities: &Authorities) -> Self {
        let answers = |connection: &mut fusebox_dev::OriginConnection| {
            while connection.request().is_some() && connection.wire.try_send(ok("")).is_ok() {}
        };
        let config = || authorities.known.issue("b", &["b.example"]).server();
        let mut of_http2 = config();
        of_http2.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            http1: Origin::start(answers),
            http2: Origin::framed(|peer, stream| peer.answer(stream, "200")),
            secured: Origin::secured(config(), answers),
            secured_http2: Origin::framed_secured(of_http2, |peer, stream| {
                peer.answer(stream, "200");
            }),
        }
    }

    fn of(&self, protocol: &str, is_secured: bool) -> &Origin {
        match (protocol, is_secured) {
            ("http2", true) => &self.secured_http2,
            ("http2", false) => &self.http2,
            (_, true) => &self.secured,
            (_, false) => &self.http1,
        }
    }
}

/// What a proxy has recorded.
struct Recorded {
    state: Value,
    series: BTreeMap<String, f64>,
}

impl Recorded {
    fn of(&self, cell: &Cell<'_>) -> String {
        let number = cell.number;
        let policy = &self.state["policies"][format!("p{number}")];
        match cell.column {
            LIMITER => match policy["limit"].as_u64().expect("a limit") {
                ..20 => "drop".into(),
                20 => "nothing".into(),
                _ => "sample".into(),
            },
            ENDPOINTS => {
                let upstreams = self.state["upstreams"].as_array().expect("a list");
                let is_it = |upstream: &&Value| upstream["name"] == format!("u{number}");
                let upstream = upstreams.iter().find(is_it).expect("it is there");
                upstream["endpoints"][0]["state"].as_str().unwrap_or_default().to_owned()
            }
            _ => {
                let count = |key: &str| policy[key].as_u64().unwrap_or_default() as usize;
                let marks = "✗".repeat(count("failures")) + &"✓".repeat(count("successes"));
                if marks.is_empty() { "–".into() } else { marks }
            }
        }
    }

    /// Requests that went once more without being attempts.
    fn again(&self, cell: &Cell<'_>) -> String {
        let series = format!("fusebox_attempts_sent_again_total{{route=\"r{}\"}}", cell.number);
        match self.series.get(&series) {
            Some(count) if *count > 0.0 => format!("+{count}"),
            _ => String::new(),
        }
    }
}

/// The failure, as conditions call it, that a fault is without any policy.
fn failure(proxy: &Proxy, cell: &Cell<'_>) -> String {
    let story = proxy.story(&cell.id(0));
    let found = story.iter().find_map(|line| line.get("failure").and_then(Value::as_str));
    found.unwrap_or_default().to_owned()
}

/// The table of these faults.
fn table(faults: &[Fault], authorities: &Authorities, wells: &Wells) -> String {
    let of_all = faults.iter().flat_map(|fault| (0..COLUMNS.len()).map(move |at| (fault, at)));
    let cells = of_all.enumerate().map(|(number, (fault, column))| Cell { fault, column, number });
    let cells: Vec<_> = cells.collect();
    let routes: String = cells.iter().map(|cell| cell.config(wells)).collect();
    let files = [("ca.pem", authorities.known.pem().as_bytes())];
    let proxy = Proxy::with_files(&"", &files, &format!("{POLICIES}{routes}"));
    let results = run_all(&cells, &proxy);
    let recorded = Recorded { state: proxy.state(), series: proxy.series() };
    let mut table = format!("| the upstream | failure | {} |\n|---|---|", COLUMNS.join(" | "));
    table += &"---|".repeat(COLUMNS.len());
    for row in cells.chunks(COLUMNS.len()) {
        write!(table, "\n| {} | {} |", row[0].fault.name, failure(&proxy, &row[0])).expect("text");
        for cell in row {
            let (result, again) = (&results[cell.number], recorded.again(cell));
            write!(table, " {result}{again} {} |", recorded.of(cell)).expect("text");
        }
    }
    table
}

/// Many at once, those first that take long.
fn run_all(cells: &[Cell<'_>], proxy: &Proxy) -> Vec<String> {
    let mut order: Vec<_> = cells.iter().collect();
    order.sort_by_key(|cell| cell.fault.timing);
    let next = AtomicUsize::new(0);
    let mut results = vec![String::new(); cells.len()];
    let done = thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            while let Some(cell) = order.get(next.fetch_add(1, Ordering::SeqCst)) {
                done.push((cell.number, cell.run(proxy)));
            }
            done
        };
        let workers: Vec<_> = (0..40).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|it| it.join().expect("no panic")).collect::<Vec<_>>()
    });
    for (number, result) in done {
        results[number] = result;
    }
    results
}

/// Holds the table of these faults against the document's part of this name.
#[track_caller]
fn hold(part: &str, faults: &[Fault], authorities: &Authorities) {
    let wells = Wells::new(authorities);
    hold_table(part, &table(faults, authorities, &wells));
}

/// Holds a table against the document's part of this name.
#[track_caller]
fn hold_table(part: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/chaos.md");
    let page = fs::read_to_string(path).expect("the page");
    let begin = format!("<!-- {part} -->\n\n");
    let told = page.split_once(&begin).and_then(|(_, rest)| rest.split_once("\n\n<!-- end -->"));
    let told = told.map_or("", |(table, _)| table);
    let differences: Vec<_> = found.lines().filter(|line| !told.contains(line)).collect();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{part}.md"));
    fs::write(&file, found).expect("a file");
    assert!(told == found, "{} has\n{}", file.display(), differences.join("\n"));
}

#[test]
fn whatever_an_upstream_does_over_http1_is_in_the_table() {
    let mut faults = faults::before_http();
    faults.extend(faults::over_http1());
    hold("http1", &faults, &Authorities::new());
}

#[test]
fn whatever_an_upstream_does_over_http2_is_in_the_table() {
    hold("http2", &http2_faults::over_http2(), &Authorities::new());
}

#[test]
fn whatever_an_upstream_does_over_tls_is_in_the_table() {
    let authorities = Authorities::new();
    hold("tls", &faults::over_tls(&authorities), &authorities);
}

#[test]
fn whatever_becomes_of_an_upload_is_in_the_table() {
    hold_table("uploads", &uploads::table());
}

#[test]
fn whatever_becomes_of_a_name_is_in_the_table() {
    hold_table("names", &names::table());
}
