//! What `swaps.sh` pushes: good, bad, trapping, looping and oversized components, in turn.
//!
//! `swaps --first` writes the first good one to stdout. `swaps ADMIN PID SWAPS` pushes, checks each
//! answer, waits for the roll-backs, and prints memory, file descriptors and threads of the process
//! on the way.

#![expect(clippy::print_stdout, reason = "figures are what it is for")]

use std::error::Error;
use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::thread::park_timeout;
use std::time::Duration;

use fusebox_dev::{handle_if, is_status, responds, try_ask, wat_component};
use tokio::time::Instant;

const TOKEN: &str = "authorization: Bearer open sesame\r\n";
const LINES: usize = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--first"] => Ok(io::stdout().write_all(&good(0))?),
        [admin, process, swaps] => swap(admin.parse()?, process, swaps.parse()?),
        // As one benchmark among all, or one test, with whatever those are asked for: it has
        // nothing to push to.
        _ => {
            println!("usage: swaps --first | swaps ADMIN PID SWAPS");
            Ok(())
        }
    }
}

fn swap(admin: SocketAddr, process: &str, swaps: usize) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let mut tally = [0; 3];
    println!("before: {}", figures(process)?);
    for number in 1..=swaps {
        // What it does is found out on live traffic only: a body of more than the two bytes of a
        // trial call.
        let on_live = |body: &str| {
            component(
                number,
                &format!(
                    "(call $body (i32.const 0) (i32.const 16) (i32.const 16))
                     (if (i32.gt_u (i32.load (i32.const 20)) (i32.const 2)) (then {body}))"
                ),
            )
        };
        let (pushed, expected, is_rolled_back) = match number % 5 {
            0 => (b"this is no component".to_vec(), 422, false),
            1 => (good(number), 200, false),
            2 => (on_live("unreachable"), 200, true),
            3 => (on_live("(loop $for-ever (br $for-ever))"), 200, true),
            // More memory than it may have; compiled, and refused when it is started.
            _ => (component_with(number, "(memory 1100)", ""), 422, false),
        };
        let before = generation(admin)?;
        let answer = try_ask(admin, "PUT /components/c", TOKEN, &pushed)?;
        if answer.status() != expected {
            return Err(format!("swap {number}: expected {expected}: {}", answer.text()).into());
        }
        while is_rolled_back && generation(admin)? != before {
            park_timeout(Duration::from_millis(1));
        }
        tally[usize::from(expected == 422) + 2 * usize::from(is_rolled_back)] += 1;
        if number % (swaps / LINES).max(1) == 0 {
            println!(
                "{number} swaps, {:.0} s: {}",
                began.elapsed().as_secs_f64(),
                figures(process)?
            );
        }
    }
    let [taken, refused, rolled_back] = tally;
    println!("{taken} taken, {refused} refused, {rolled_back} taken and rolled back by itself");
    Ok(())
}

fn good(number: usize) -> Vec<u8> {
    component(number, "")
}

fn component(number: usize, first: &str) -> Vec<u8> {
    component_with(number, "", first)
}

/// Takes 503s and answers them, after it has done this `first`. The number makes it another one.
fn component_with(number: usize, fields: &str, first: &str) -> Vec<u8> {
    wat_component(&format!(
        r#"(import "attempt" "response-body" (func $body (param i32 i32 i32))) {fields}
           (data (i32.const 2048) "{number}") {} {}"#,
        handle_if(&format!("{first} {}", is_status(503))),
        responds(200, "from the component")
    ))
}

/// The generation that is in use.
fn generation(admin: SocketAddr) -> Result<u64, Box<dyn Error>> {
    let state = try_ask(admin, "GET /state", "", b"")?;
    let state: serde_json::Value = serde_json::from_str(state.text())?;
    state["components"]["c"]["generation"].as_u64().ok_or_else(|| "no generation in /state".into())
}

fn figures(process: &str) -> io::Result<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let of =
        |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map_or("?", str::trim);
    let files = fs::read_dir(format!("/proc/{process}/fd"))?.count();
    Ok(format!("resident {}, {} threads, {files} files", of("VmRSS:"), of("Threads:")))
}
