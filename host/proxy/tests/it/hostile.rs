//! Guests that mean harm: each costs its own call, and neither its worker nor anybody else on it.
//!
//! Every guest runs in a proxy of one worker, as a predicate and as a fallback, twice each, while
//! two neighbours go on asking: one on a route without components, one on a route with a good one.
//! [`FAULTS`] says what each is called. The figures are printed; `cargo test hostile --
//! --nocapture` shows them.

mod answers;
mod files;
mod guest;
mod running;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use fusebox_dev::{Ends, Origin, answer, eventually, get, is_status, ok, predicate};
use tokio::time::Instant;

use crate::support::{Proxy, metrics};
use guest::Guest;

/// What the guests that fail are called in log and metrics, and what the log says in detail.
const FAULTS: [(&str, &str, &str); 78] = [
    // They take too long.
    ("loops", "timeout", "took longer than 20ms"),
    ("loops in realloc", "timeout", "took longer than 20ms"),
    ("loops in post-return", "timeout", "took longer than 20ms"),
    ("recurses for ever in constant stack", "timeout", "took longer than 20ms"),
    ("fills its memory for ever", "timeout", "took longer than 20ms"),
    ("copies its memory for ever", "timeout", "took longer than 20ms"),
    ("asks for a huge header for ever", "timeout", "took longer than 20ms"),
    ("asks for all headers for ever", "timeout", "took longer than 20ms"),
    ("asks for the body for ever", "timeout", "took longer than 20ms"),
    ("asks for the body as text for ever", "timeout", "took longer than 20ms"),
    ("asks for random bytes for ever", "timeout", "took longer than 20ms"),
    ("polls a long list for ever", "timeout", "took longer than 20ms"),
    ("prints for ever", "timeout", "took longer than 20ms"),
    ("prints blank lines for ever", "timeout", "took longer than 20ms"),
    // They want too much.
    ("grows its memory", "memory", "asked for more than 64MiB of memory"),
    ("grows its memory at once", "memory", "asked for more than 64MiB of memory"),
    ("grows its table", "table", "asked for more than 131072 table elements"),
    ("overflows the stack", "stack", "needed more than 512KiB of stack"),
    ("overflows the stack in realloc", "stack", "needed more than 512KiB of stack"),
    ("asks for too many random bytes", "host-bytes", "exceeds limit 65536"),
    ("makes pollables without end", "table", "asked for more than 256 streams and the like"),
    ("makes resources without end", "bad-answer", "handle limit"),
    ("prints more than fits", "host-bytes", "more than 1MiB at once"),
    ("prints zeroes without end", "host-bytes", "zeroes"),
    // They fail.
    ("is unreachable", "trap", "wasm `unreachable` instruction executed"),
    ("divides by zero", "trap", "integer divide by zero"),
    ("reads out of bounds", "trap", "out of bounds memory access"),
    ("panics", "trap", "wasm `unreachable` instruction executed | guest panicked | because"),
    ("fails when it has changed its memory", "trap", "wasm `unreachable` instruction executed"),
    ("fails in realloc", "trap", "wasm `unreachable` instruction executed"),
    ("fails in post-return", "trap", "wasm `unreachable` instruction executed"),
    ("exits with success", "trap", "Exited with i32 exit status 0"),
    ("exits with failure", "trap", "Exited with i32 exit status 1"),
    // They do what they must not.
    ("sleeps", "misuse", "waited, for time or for input"),
    ("waits for one of many", "misuse", "waited, for time or for input"),
    ("asks in realloc", "trap", "cannot leave component instance"),
    ("asks in post-return", "trap", "cannot leave component instance"),
    ("allocates out of bounds", "bad-answer", "realloc"),
    ("hands over what is out of bounds", "bad-answer", "out of bounds"),
    ("hands over what is no text", "bad-answer", "utf-8"),
    ("waits for nothing", "bad-answer", "empty poll list"),
    ("has a handle of nothing", "bad-answer", "unknown handle index"),
    // They do not start, though they did when they were loaded.
    ("fails to start later", "instantiation", "wasm `unreachable` instruction executed"),
    ("loops at a later start", "instantiation", "took longer than 20ms"),
    ("sleeps at a later start", "instantiation", "waited, for time or for input"),
    // They answer what cannot be sent, as fallbacks.
    ("has a status of 0", "bad-answer", "answered with status `0`, expected 200 to 599"),
    ("has a status of 99", "bad-answer", "answered with status `99`"),
    ("has a status of 100", "bad-answer", "answered with status `100`"),
    ("has a status of 101", "bad-answer", "answered with status `101`"),
    ("has a status of 199", "bad-answer", "answered with status `199`"),
    ("has a status of 600", "bad-answer", "answered with status `600`"),
    ("has a status of 1000", "bad-answer", "answered with status `1000`"),
    ("has a status of 65535", "bad-answer", "answered with status `65535`"),
    ("has a name with a space", "bad-answer", "answered with header name `x y`"),
    ("has a name with a colon", "bad-answer", "answered with header name `x:y`"),
    ("has a name with a line end", "bad-answer", "answered with header name `x\r\ny: z`"),
    ("has a name with a NUL", "bad-answer", "answered with header name `x\0`"),
    ("has an empty name", "bad-answer", "answered with header name ``"),
    ("has a name that is not ASCII", "bad-answer", "answered with header name `xü`"),
    ("has a name of a megabyte", "bad-answer", "answered with header name `xxx"),
    ("has a value with a line end", "bad-answer", "answered with an invalid value for header `x`"),
    ("has a value with a NUL", "bad-answer", "answered with an invalid value for header `x`"),
    (
        "has a value with a wide character",
        "bad-answer",
        "answered with an invalid value for header `x`",
    ),
    ("has a name that is no text", "bad-answer", "invalid utf-8"),
    ("has a value that is no text", "bad-answer", "invalid utf-8"),
    ("has a body that is no text", "bad-answer", "invalid utf-8"),
    ("has too many headers", "bad-answer", "answered with 101 headers, expected at most 100"),
    (
        "has as many headers as fit",
        "bad-answer",
        "answered with 20000 headers, expected at most 100",
    ),
    ("has a million headers", "host-bytes", "more than 1MiB at once"),
    ("has headers without end", "bad-answer", "out of bounds"),
    ("has headers at the end of the world", "bad-answer", "out of bounds"),
    ("has headers in between", "bad-answer", "aligned"),
    ("has a giant body", "host-bytes", "more than 1MiB at once"),
    ("has a body without end", "bad-answer", "out of bounds"),
    ("has a body of no kind", "bad-answer", "discriminant"),
    ("is no answer", "bad-answer", "discriminant"),
    ("is nowhere", "bad-answer", "out of bounds"),
    ("is in between", "bad-answer", "aligned"),
];

/// Within this a neighbour gets its answer, if the machine has nothing else to do.
const ON_TIME: Duration = Duration::from_secs(1);

/// More than this the proxy never has, whatever guests ask for.
const MEMORY: u64 = 300 << 20;

/// The configuration of them all: the hostile component `c`, of which `options` are more keys, and
/// a good one.
fn config(options: &str) -> String {
    format!(
        "workers = 1\n\
         [components.c]\nfile = 'c.wasm'\nprobe = false\nmax_faults = 1000\n\
         host_calls = 1000000000\n{options}\n\
         [components.good]\nfile = 'good.wasm'\ntimeout = '10s'\n\
         [policies.retry]\nkind = 'retry'\nhandle_if = {{ component = 'c' }}\ndelay = '1ms'\n\
         max_retries = 1\nbudget = 'none'\n\
         [policies.fallback]\nkind = 'fallback'\nhandle_if = {{ status = [503] }}\n\
         respond = {{ component = 'c' }}\n\
         [policies.good]\nkind = 'retry'\nhandle_if = {{ component = 'good' }}\ndelay = '1ms'\n\
         max_retries = 1\nbudget = 'none'\n\
         [[routes]]\npath = '/predicate'\nupstream = 'ORIGIN'\npolicies = ['retry']\n\
         [[routes]]\npath = '/fallback'\nupstream = 'ORIGIN'\npolicies = ['fallback']\n\
         [[routes]]\npath = '/good'\nupstream = 'ORIGIN'\npolicies = ['good']\n\
         [[routes]]\npath = '/plain'\nupstream = 'ORIGIN'\n"
    )
}

/// Takes 418.
fn good() -> Vec<u8> {
    predicate(&is_status(418))
}

/// Each request of `/predicate` and `/good` has two attempts, of which the first fails; `/fallback`
/// always does. Below `/big` what fails has a body of 1 MiB.
fn origin() -> Origin {
    let seen = Mutex::new(BTreeSet::new());
    Origin::start(move |connection| {
        while let Some(request) = connection.request() {
            let (target, id) = (request.request.target(), request.request.header("x-request-id"));
            let id = id.unwrap_or_default().to_owned();
            let is_first = seen.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
            let first = if target.ends_with("/big") {
                "first".repeat((1 << 20) / 5)
            } else {
                "first".to_owned()
            };
            let answer = match target.split('/').nth(1).unwrap_or_default() {
                "plain" => ok("plain"),
                "good" if is_first => answer(418, "", ""),
                "fallback" => answer(503, "", &first),
                _ if is_first => answer(503, "", &first),
                _ => ok("second"),
            };
            if connection.wire.try_send(answer).is_err() {
                return;
            }
        }
    })
}

#[track_caller]
fn proxy(origin: &Origin, component: &[u8], options: &str) -> Proxy {
    Proxy::with_files(origin, &[("c.wasm", component), ("good.wasm", &good())], &config(options))
}

/// A hostile guest and how it is asked.
struct Hostile<'a> {
    name: &'a str,
    guest: Guest,
    options: &'a str,
    below: &'a str,
    headers: &'a str,
    /// The first request comes so long after the load.
    later: Duration,
    /// Not a predicate.
    only_responds: bool,
}

impl<'a> Hostile<'a> {
    /// One that takes too long.
    fn slow(name: &'a str, guest: Guest) -> Self {
        let later = Duration::ZERO;
        Self {
            name,
            guest,
            options: "timeout = '20ms'",
            below: "",
            headers: "",
            later,
            only_responds: false,
        }
    }

    /// One that fails whatever the time; a busy machine must not cut it off before.
    fn failing(name: &'a str, guest: Guest) -> Self {
        Self { options: "timeout = '10s'", ..Self::slow(name, guest) }
    }

    /// Asks it as a predicate and as a fallback, twice, and holds all that can be seen of it
    /// against [`FAULTS`]. A guest that is not there answers.
    #[track_caller]
    fn costs_only_its_own_call(&self) {
        let Self { name, guest, options, below, headers, later, only_responds } = self;
        let (_, fault, detail) =
            FAULTS.iter().find(|(known, ..)| known == name).copied().unwrap_or((name, "", ""));
        let origin = origin();
        let proxy = proxy(&origin, &guest.component(), options);
        let loaded = Instant::now();
        eventually("the time to ask", || (loaded.elapsed() >= *later).then_some(()));
        let asked = [("predicate", 200, "second", 2), ("fallback", 503, "first", 1)];
        let asked = if *only_responds { &asked[1..] } else { &asked[..] };
        let mut longest = Duration::ZERO;
        let neighbours = Neighbours::of(&proxy, || {
            for round in ["1", "2"] {
                for &(route, status, text, _) in asked {
                    let request = get(&format!("/{route}{below}"), &format!("{route}-{round}"));
                    let began = Instant::now();
                    let response =
                        proxy.ask(request.replacen("\r\n\r\n", &format!("\r\n{headers}\r\n"), 1));
                    longest = longest.max(began.elapsed());
                    assert_eq!(response.status(), status, "{name} {route} {round}");
                    assert!(response.text().starts_with(text), "{name} {route} {round}");
                }
            }
        });
        let ids =
            ["1", "2"].into_iter().flat_map(|round| asked.iter().map(move |asked| (asked, round)));
        let mut expected = 0_u32;
        for ((route, .., faults), round) in ids {
            let (id, faults) =
                (format!("{route}-{round}"), if fault.is_empty() { 0 } else { *faults });
            expected += faults;
            let story = proxy.story(&id);
            let faulted = story.iter().filter(|line| line.get("fault").is_some());
            assert_eq!(faulted.clone().count(), faults as usize, "{name} {id}: {story:?}");
            for line in faulted {
                assert_eq!(
                    line["msg"],
                    format!("Component faulted: {fault}"),
                    "{name} {id}: {line}"
                );
                let policy = if *route == "predicate" { "retry" } else { "fallback" };
                assert_eq!(
                    [&line["component"], &line["fault"], &line["policy"]],
                    ["c", fault, policy],
                    "{name}"
                );
                let said = line["detail"].as_str().unwrap_or_default();
                assert!(said.contains(detail), "{name} {id}\nexpected {detail}\nfound    {said}");
            }
        }
        let counted = metrics(proxy.admin("GET /metrics").text());
        let counted = counted
            .into_iter()
            .filter(|(name, count)| name.contains("_component_faults_") && *count > 0.0);
        let expected = (expected > 0).then(|| (proxy.fault_series(fault), f64::from(expected)));
        assert_eq!(counted.collect::<Vec<_>>(), Vec::from_iter(expected), "{name}");
        let peak = proxy.peak_memory();
        assert!(peak < MEMORY, "{name}: {} MiB", peak >> 20);
        neighbours.was_on_time(name);
        figures(name, options, longest, neighbours.longest, peak);
    }
}

/// Those who share a worker with what is tested.
struct Neighbours {
    /// What the slowest answer took.
    longest: Duration,
    /// How long threads of the test or of the proxy were ready to run and did not: guests are cut
    /// off by processor time, so others on the machine make everybody wait longer.
    queued: Duration,
}

impl Neighbours {
    #[track_caller]
    fn was_on_time(&self, name: &str) {
        let Self { longest, queued } = self;
        assert!(
            *longest < ON_TIME + *queued,
            "{name}: a neighbour waited for {longest:?}, and {queued:?} were due to others"
        );
    }

    /// Asks while `hostile` runs. Each answer is the right one.
    #[track_caller]
    fn of(proxy: &Proxy, hostile: impl FnOnce()) -> Self {
        let queued = proxy.queued();
        let done = AtomicBool::new(false);
        let answered = [AtomicUsize::new(0), AtomicUsize::new(0)];
        thread::scope(|scope| {
            let (done, ends) = (&done, Ends(&done));
            let clients = [("/plain", "plain"), ("/good", "second")].into_iter().zip(&answered);
            let clients: Vec<_> = clients
                .map(|((path, text), answered)| {
                    let mut wire = proxy.connect();
                    scope.spawn(move || {
                        let mut latest = Duration::ZERO;
                        while !done.load(Ordering::SeqCst) {
                            let id = format!("{}{}", &path[1..], answered.load(Ordering::SeqCst));
                            let began = Instant::now();
                            let response = wire.ask(get(path, &id));
                            latest = latest.max(began.elapsed());
                            assert_eq!((response.status(), response.text()), (200, text));
                            answered.fetch_add(1, Ordering::SeqCst);
                            thread::park_timeout(Duration::from_millis(1));
                        }
                        latest
                    })
                })
                .collect();
            let all_got_one_more = |what: &str| {
                let before: Vec<_> =
                    answered.iter().map(|answered| answered.load(Ordering::SeqCst)).collect();
                eventually(what, || {
                    let more = answered
                        .iter()
                        .zip(&before)
                        .all(|(now, before)| now.load(Ordering::SeqCst) > *before);
                    more.then_some(())
                });
            };
            all_got_one_more("the neighbours' first answers");
            hostile();
            all_got_one_more("the neighbours' last answers");
            drop(ends);
            let longest = clients
                .into_iter()
                .map(|client| client.join().expect("no panic"))
                .max()
                .unwrap_or_default();
            Self { longest, queued: proxy.queued().saturating_sub(queued) }
        })
    }
}

#[expect(clippy::print_stderr, reason = "shown with `--nocapture`")]
fn figures(name: &str, options: &str, hostile: Duration, neighbour: Duration, peak: u64) {
    let (peak, options) = (peak >> 20, options.replace('\n', ", "));
    eprintln!("| {name} | {options} | {hostile:.1?} | {neighbour:.1?} | {peak} MiB |");
}
