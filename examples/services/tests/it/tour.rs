//! The demonstration as `make run` starts it, on free ports. (`make tour` is a test of its own.)

use std::net::SocketAddr;
use std::process::{Output, Stdio};

use fusebox_dev::{LIMIT, try_ask};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};

/// A `tour` with these arguments in the root of the repository.
fn tour(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tour"));
    command
        .args(args)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future).await.expect("it happens in time")
}

const ANY: &str = "127.0.0.1:0";

/// `tour run`, once all three run.
struct Demonstration {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// What it says to try: each a command, without what it is for.
    commands: Vec<String>,
}

impl Demonstration {
    async fn start() -> Self {
        let args =
            ["run", "--service-a", ANY, "--service-b", ANY, "--fusebox", ANY, "--admin", ANY];
        let mut child = tour(&args).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut commands = Vec::new();
        loop {
            let Some(line) = within(lines.next_line()).await.unwrap() else {
                let mut stderr = String::new();
                child.stderr.take().unwrap().read_to_string(&mut stderr).await.unwrap();
                panic!("it has ended: {stderr}");
            };
            match line.strip_prefix("  ") {
                Some(command) if !line.contains(" | ") => {
                    commands.push(command.split_once('#').unwrap().0.trim_end().to_owned());
                }
                _ if line == "ctrl-c ends all three." => return Self { child, lines, commands },
                _ => {}
            }
        }
    }

    /// The URL in the command that ends like this.
    fn url(&self, command: impl Fn(&str) -> bool) -> &str {
        let command = self.commands.iter().find(|line| command(line)).unwrap();
        command
            .strip_prefix("curl -i ")
            .or_else(|| command.strip_prefix("curl -s "))
            .expect("a call of curl")
    }

    /// Waits for its end: the exit code, and what it printed until then.
    async fn ended(mut self) -> (Option<i32>, Vec<String>, String) {
        let mut printed = Vec::new();
        while let Some(line) = within(self.lines.next_line()).await.unwrap() {
            printed.push(line);
        }
        let Output { status, stderr, .. } = within(self.child.wait_with_output()).await.unwrap();
        (status.code(), printed, String::from_utf8(stderr).unwrap())
    }
}

/// The process ids of those that `tour` has started.
#[cfg(target_os = "linux")]
fn children(tour: &Child) -> Vec<u32> {
    let pid = tour.id().unwrap();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

#[cfg(target_os = "linux")]
fn assert_gone(pids: &[u32]) {
    for pid in pids {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{pid} is still there");
    }
}

async fn signal(pid: u32, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().await;
    assert!(sent.unwrap().success());
}

fn address(url: &str) -> SocketAddr {
    url.strip_prefix("http://").unwrap().split('/').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_it_says_to_try_works_and_a_signal_ends_all() {
    for name in ["TERM", "INT"] {
        let demonstration = Demonstration::start().await;
        assert_eq!(demonstration.commands.len(), 5);
        let state = demonstration.url(|command| command.ends_with("/state"));
        let mut addresses = vec![address(state)];
        for command in &demonstration.commands {
            let url = demonstration.url(|line| line == command);
            let path = url.rsplit_once('/').unwrap().1;
            let path = if ["state", "metrics"].contains(&path) { path } else { "" };
            let answer = try_ask(address(url), &format!("GET /{path}"), "", b"").unwrap();
            let (status, text) = (answer.status(), answer.text());
            match path {
                "state" => assert!(text.contains(r#""service-b""#), "{text}"),
                "metrics" => assert!(text.contains("fusebox_requests_total"), "{text}"),
                _ if *command == demonstration.commands[1] => {
                    assert!([200, 503].contains(&status), "{status}");
                }
                // Through fusebox there is an answer whatever B does.
                _ => assert!(status == 200 && text.contains("message"), "{status} {text}"),
            }
            addresses.push(address(url));
        }

        signal(demonstration.child.id().unwrap(), name).await;
        let (code, printed, stderr) = demonstration.ended().await;
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        for prefix in ["      A | {", "      B | {", "fusebox | {"] {
            assert!(printed.iter().any(|line| line.starts_with(prefix)), "{prefix}: {printed:#?}");
        }
        for address in addresses {
            assert!(
                TcpStream::connect(address).await.is_err(),
                "somebody still listens on {address}"
            );
        }
    }
}

#[tokio::test]
async fn a_port_in_use_is_one_line_that_says_whose_and_ends_all() {
    let taken = TcpListener::bind(ANY).await.unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (option, who) in [
        ("--service-b", "service B: listen on"),
        ("--fusebox", "fusebox: listen: can't listen on"),
        ("--admin", "fusebox: admin.listen: can't listen on"),
        ("--service-a", "service A: listen on"),
    ] {
        let mut args = vec!["run", option, &taken];
        for other in ["--service-a", "--service-b", "--fusebox", "--admin"] {
            if other != option {
                args.extend([other, ANY]);
            }
        }
        let output = within(tour(&args).output()).await.unwrap();
        let (stdout, stderr) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(stderr.starts_with(&format!("error: {who} `{taken}`: ")), "{stderr}");
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
        // Of the two that may have started before, fusebox says that it ends.
        assert_eq!(stdout.contains(r#""msg":"stopped""#), option == "--service-a", "{stdout}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn one_that_ends_early_ends_all() {
    for (index, who) in ["service B", "fusebox", "service A"].into_iter().enumerate() {
        let demonstration = Demonstration::start().await;
        let children = children(&demonstration.child);
        assert_eq!(children.len(), 3);
        signal(children[index], "KILL").await;
        let (code, _, stderr) = demonstration.ended().await;
        assert_eq!(
            (code, stderr),
            (Some(1), format!("error: {who} has ended by itself: signal: 9 (SIGKILL)\n"))
        );
        assert_gone(&children);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn told_to_stop_the_tour_leaves_nobody_behind() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = tour(&[]).env("TMPDIR", directory.path()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The first story has been told, the others are under way.
    while !within(lines.next_line()).await.unwrap().expect("more to come").starts_with("1 Timeout")
    {
    }
    let children = children(&child);
    assert!(!children.is_empty());
    signal(child.id().unwrap(), "TERM").await;
    let output = within(child.wait_with_output()).await.unwrap();
    assert_eq!(
        (output.status.code(), &*output.stderr),
        (Some(1), &b"error: stopped before the end\n"[..])
    );
    assert_gone(&children);
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn elsewhere_it_says_where_to_run_it() {
    for args in [&[][..], &["run"]] {
        let output = within(tour(args).current_dir("/").output()).await.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            stderr.ends_with("is not here: run this from the root of the repository\n"),
            "{stderr}"
        );
    }
}
