//! What came to an upstream, and what it holds that against.

use std::fmt;
use std::sync::{Mutex, MutexGuard};

/// A request that came to a recorder.
#[derive(Clone, Debug, Default)]
pub(super) struct Recorded {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) host: String,
    /// Names in lower case, pseudo-headers and the host left out.
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(String, String)>,
    /// Whether it has ended as it should.
    pub(super) is_whole: bool,
}

impl Recorded {
    /// The one value of a field, or nothing.
    pub(super) fn field(&self, name: &str) -> &str {
        let found = self.fields.iter().find(|(it, _)| it == name);
        found.map_or("", |(_, value)| value)
    }

    /// What the log knows it by.
    pub(super) fn id(&self) -> &str {
        self.field("x-request-id")
    }
}

/// `POST /a "hello"`
impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)?;
        if !self.body.is_empty() {
            write!(f, " {:?}", String::from_utf8_lossy(&self.body))?;
        }
        Ok(())
    }
}

/// What has come to all connections, in its order.
#[derive(Debug, Default)]
pub(super) struct Records {
    requests: Mutex<Vec<Recorded>>,
    flaws: Mutex<Vec<String>>,
}

impl Records {
    pub(super) fn all(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.requests.lock().expect("no panic")
    }

    /// Something was not flawless.
    pub(super) fn complain(&self, flaw: String) {
        self.flaws.lock().expect("no panic").push(flaw);
    }

    pub(super) fn flaws(&self) -> Vec<String> {
        self.flaws.lock().expect("no panic").clone()
    }

    /// A head has come. Returns its number.
    pub(super) fn begin(&self, request: Recorded) -> usize {
        let mut requests = self.all();
        requests.push(request);
        requests.len() - 1
    }

    pub(super) fn change<T>(&self, number: usize, change: impl FnOnce(&mut Recorded) -> T) -> T {
        change(&mut self.all()[number])
    }
}

/// What upstreams of either protocol hold fields against: names are tokens in lower case, values
/// are text without controls and without blanks around it.
pub(super) fn check_field(name: &str, value: &str) -> Result<(), String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_name = !name.is_empty() && name.bytes().all(is_token) && !name.contains(is_capital);
    let is_value = value.trim_matches([' ', '\t']) == value
        && value.bytes().all(|byte| byte >= b' ' && byte != 0x7f || byte == b'\t');
    if is_name && is_value { Ok(()) } else { Err(format!("a field {name:?}: {value:?}")) }
}

fn is_capital(letter: char) -> bool {
    letter.is_ascii_uppercase()
}

/// A method, and a target in the form that origins get.
pub(super) fn check_start(method: &str, target: &str) -> Result<(), String> {
    let is_method = check_field(&method.to_ascii_lowercase(), "").is_ok();
    let is_path = target.starts_with('/') || (method, target) == ("OPTIONS", "*");
    let is_target = is_path && target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if is_method && is_target { Ok(()) } else { Err(format!("a request {method:?} {target:?}")) }
}

/// A host and a port, and nothing else (RFC 3986, section 3.2.2).
pub(super) fn check_host(host: &str) -> Result<(), String> {
    let is_of_host =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~[]:%!$&'()*+,;=".contains(&byte);
    let is_host = !host.is_empty() && host.bytes().all(is_of_host);
    if is_host { Ok(()) } else { Err(format!("a host {host:?}")) }
}

/// What ends at a proxy, whatever it speaks.
pub(super) const OF_ONE_CONNECTION: [&str; 7] = [
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "upgrade",
];
