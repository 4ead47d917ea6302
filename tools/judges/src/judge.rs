//! A judge: a server of somebody else's that runs here, and what it makes of what it is sent.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::reading::Reading;
use crate::recorder::{HANDED_ON, Records, record};

/// A connection on which nothing has come for so long waits for the client.
const QUIET: Duration = Duration::from_millis(400);

/// How long a connection is waited for that the server closes.
const LONG: Duration = Duration::from_secs(20);

/// How often it is asked again until it has seen the same twice.
const MOST: usize = 5;

/// How often it is looked whether a judge listens, and with which pause.
const TRIES: u32 = 200;

/// How a judge is run. In its settings `LISTEN`, `UPSTREAM` and `FOLDER` stand for themselves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JudgeKind {
    pub(crate) name: &'static str,
    settings: &'static str,
    /// The arguments. `SETTINGS` is the file with them.
    command: &'static [&'static str],
    version: &'static [&'static str],
    /// Whether it hands requests on, rather than to print them.
    is_proxy: bool,
}

/// fusebox comes first: the others judge it.
pub(crate) const JUDGES: [JudgeKind; 6] = [
    JudgeKind {
        name: "fusebox",
        settings: include_str!("../judges/fusebox.toml"),
        command: &["target/debug/fusebox", "run", "SETTINGS"],
        version: &["target/debug/fusebox", "--version"],
        is_proxy: true,
    },
    JudgeKind {
        name: "nginx",
        settings: include_str!("../judges/nginx.conf"),
        command: &["nginx", "-p", "FOLDER", "-c", "SETTINGS"],
        version: &["nginx", "-v"],
        is_proxy: true,
    },
    JudgeKind {
        name: "haproxy",
        settings: include_str!("../judges/haproxy.cfg"),
        command: &["haproxy", "-db", "-f", "SETTINGS"],
        version: &["haproxy", "-v"],
        is_proxy: true,
    },
    JudgeKind {
        name: "Apache",
        settings: include_str!("../judges/apache2.conf"),
        command: &["apache2", "-X", "-f", "SETTINGS"],
        version: &["apache2", "-v"],
        is_proxy: true,
    },
    JudgeKind {
        name: "node",
        settings: include_str!("../judges/node.js"),
        command: &["node", "SETTINGS", "LISTEN"],
        version: &["node", "--version"],
        is_proxy: false,
    },
    JudgeKind {
        name: "h11",
        settings: include_str!("../judges/h11_server.py"),
        command: &["target/judges/venv/bin/python", "SETTINGS", "LISTEN"],
        version: &[
            "target/judges/venv/bin/python",
            "-c",
            "import h11; print('h11', h11.__version__)",
        ],
        is_proxy: false,
    },
];

/// A judge that runs. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Judge {
    kind: JudgeKind,
    process: Child,
    address: SocketAddr,
    records: Arc<Records>,
    _folder: TempDir,
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Judge {
    /// Starts one, and waits until it listens.
    pub(crate) fn start(kind: JudgeKind) -> Result<Self> {
        let (folder, records) = (tempfile::tempdir()?, Arc::<Records>::default());
        let address = free_address()?;
        let upstream = if kind.is_proxy { record(&records)? } else { address };
        let fill = |text: &str| {
            let text = text.replace("LISTEN", &address.to_string());
            let text = text.replace("UPSTREAM", &upstream.to_string());
            text.replace("FOLDER", &folder.path().display().to_string())
        };
        let settings = folder.path().join("settings");
        fs::write(&settings, fill(kind.settings))?;
        let arguments = kind.command.iter().map(|argument| match *argument {
            "SETTINGS" => settings.display().to_string(),
            argument => fill(argument),
        });
        let mut command = command_of(&arguments.collect::<Vec<_>>());
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{} does not start", kind.name))?;
        let printed = BufReader::new(process.stdout.take().context("its stdout")?);
        if !kind.is_proxy {
            let records = records.clone();
            thread::spawn(move || {
                printed.lines().map_while(Result::ok).for_each(|it| records.add(it))
            });
        }
        let judge = Self { kind, process, address, records, _folder: folder };
        judge.wait()?;
        Ok(judge)
    }

    fn wait(&self) -> Result<()> {
        for _ in 0..TRIES {
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            pause();
        }
        anyhow::bail!("{} does not listen", self.kind.name)
    }

    /// What it says of itself.
    pub(crate) fn version(&self) -> String {
        let arguments: Vec<String> = self.kind.version.iter().map(ToString::to_string).collect();
        let Ok(said) = command_of(&arguments).output() else { return self.kind.name.to_owned() };
        let said = [said.stdout, said.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let first = said.lines().next().unwrap_or_default();
        let number = first.split([' ', '/']).find(|word| {
            word.trim_start_matches('v').starts_with(|first: char| first.is_ascii_digit())
        });
        format!("{} {}", self.kind.name, number.unwrap_or_default().trim_start_matches('v'))
    }

    /// What it sees of these bytes, twice: on a machine with much else to do, once is not enough.
    /// Some who refuse a body that they have begun to hand on only sometimes say so.
    pub(crate) fn judge(&self, sent: &str) -> Result<Reading> {
        let mut last = self.judge_once(sent)?;
        for _ in 0..MOST {
            let reading = self.judge_once(sent)?;
            if reading.is_same_as(&last) {
                return Ok(Reading { refused: reading.refused.or(last.refused), ..reading });
            }
            last = reading;
        }
        anyhow::bail!("{} sees something else every time: {sent:?}", self.kind.name)
    }

    fn judge_once(&self, sent: &str) -> Result<Reading> {
        let answered =
            self.ask(sent, QUIET).with_context(|| format!("{}: {sent:?}", self.kind.name))?;
        let lines = answered.split(|byte| *byte == b'\n');
        let statuses = lines.filter_map(|line| {
            let line = line.strip_prefix(b"HTTP/1.1 ").or(line.strip_prefix(b"HTTP/1.0 "))?;
            str::from_utf8(line.get(..3)?).ok()?.parse::<u16>().ok()
        });
        let refused = statuses.into_iter().find(|status| *status >= 400);
        let (handed_on, requests) =
            self.recorded()?.into_iter().partition(|record| record.starts_with(HANDED_ON));
        Ok(Reading { requests, handed_on: !Vec::is_empty(&handed_on), refused })
    }

    /// What has been written down of the last connection. What comes late would be taken for that
    /// of the next one, so another request goes after it.
    fn recorded(&self) -> Result<Vec<String>> {
        let last =
            "PUT /last HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlast";
        self.ask(last, LONG)?;
        for _ in 0..TRIES {
            if let Some(records) = self.records.take_until("PUT 6c617374") {
                return Ok(records);
            }
            pause();
        }
        anyhow::bail!("{} loses requests", self.kind.name)
    }

    /// All that it answers, until it closes or says nothing for so long.
    fn ask(&self, sent: &str, quiet: Duration) -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(quiet))?;
        stream.write_all(sent.as_bytes())?;
        let mut answered = Vec::new();
        let ended = stream.read_to_end(&mut answered);
        let is_quiet = |kind| matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut);
        if let Err(error) = ended {
            let kind = error.kind();
            ensure!(is_quiet(kind) || kind == ErrorKind::ConnectionReset, error);
        }
        stream.shutdown(Shutdown::Both).ok();
        Ok(answered)
    }
}

#[expect(clippy::disallowed_methods, reason = "nothing else is to be done meanwhile")]
fn pause() {
    thread::sleep(Duration::from_millis(25));
}

/// In Debian, servers are where only administrators look.
fn command_of(arguments: &[String]) -> Command {
    let system = Path::new("/usr/sbin").join(&arguments[0]);
    let program = if system.exists() { system.display().to_string() } else { arguments[0].clone() };
    let mut command = Command::new(program);
    command.args(&arguments[1..]);
    command
}

/// One that nobody listens at. The kernel hands it out to nobody else soon.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
