//! How other servers read the odd requests that `host/http1` is tested with: how many requests each
//! of them sees. Prints a table, and keeps it in `docs/http1.md`.
//!
//! Those that are proxies (fusebox itself, nginx, haproxy, Apache) get an upstream that writes down
//! what comes; node and h11 write it down themselves. Each gets the same bytes over a loopback
//! connection, one for each case.

mod cases;
mod judge;
mod reading;
mod recorder;
mod table;

#[path = "../../../host/http1/tests/it/script.rs"]
mod script;
#[expect(dead_code, reason = "the tests ask for more")]
#[path = "../../../host/http1/tests/it/served.rs"]
mod served;

use std::process::ExitCode;
use std::thread;

use anyhow::Result;

use cases::{FAMILIES, OddRequest};
use judge::{JUDGES, Judge};
use reading::Reading;
use served::{Ending, Served};
use table::Row;

fn main() -> Result<ExitCode> {
    let cases =
        FAMILIES.into_iter().flat_map(|(family, odd)| odd.iter().map(move |odd| (family, odd)));
    let cases: Vec<(&str, &OddRequest)> = cases.collect();
    let judges = JUDGES.map(Judge::start).into_iter().collect::<Result<Vec<_>>>()?;
    let versions: Vec<String> = judges.iter().map(Judge::version).collect();
    let columns = thread::scope(|scope| {
        let threads = judges.iter().map(|judge| {
            let cases = &cases;
            scope.spawn(move || cases.iter().map(|(_, odd)| judge.judge(odd.sent)).collect())
        });
        let threads: Vec<_> = threads.collect();
        let joined = threads.into_iter().map(|it| it.join().expect("a judge's thread"));
        joined.collect::<Result<Vec<Vec<Reading>>>>()
    })?;
    let row = |(number, (family, odd)): (usize, &(&'static str, &'static OddRequest))| {
        let pieces = [odd.sent.as_bytes()];
        Row {
            family,
            odd,
            codecs: of_codec(&served::ours(&pieces)),
            hypers: of_codec(&served::hypers(&pieces)),
            judges: columns.iter().map(|column| column[number].clone()).collect(),
        }
    };
    let rows: Vec<Row> = cases.iter().enumerate().map(row).collect();
    table::keep(&rows, &versions)
}

/// That of a codec in this process, which answers nothing.
fn of_codec(served: &Served) -> Reading {
    let requests = served.requests.iter().map(|request| {
        let body: String = request.body.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{} {body}", request.method)
    });
    let refused = match &served.ending {
        // What comes within a body is refused as this, too.
        Ending::Refused(fault) => fault.get(..3).and_then(|it| it.parse().ok()).or(Some(400)),
        _ => None,
    };
    Reading { requests: requests.collect(), handed_on: false, refused }
}
