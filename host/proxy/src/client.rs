//! The client of the admin listener, for `fusebox push`, `fusebox rollback` and `fusebox reload`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Builder;
use tokio::time::timeout;

/// How long to wait for an answer. (The largest guests need half a minute to compile.)
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const LONGEST_ANSWER: usize = 1 << 20;

/// The admin listener of a running proxy.
#[derive(Debug)]
pub struct AdminClient {
    authority: String,
    address: String,
    /// Its path, if it is a Unix socket.
    socket: Option<PathBuf>,
    token: Option<HeaderValue>,
}

impl AdminClient {
    /// The admin listener at `url`, `http://HOST[:PORT]` or `unix:/PATH`. Requests that change
    /// something need the token in `token_file`.
    ///
    /// # Errors
    /// The URL has another form, or the file can't be read or is empty.
    pub fn new(url: &str, token_file: Option<&Path>) -> anyhow::Result<Self> {
        let token = token_file.map(token).transpose()?;
        if let Some(path) = url.strip_prefix("unix:") {
            let (authority, socket) = ("localhost".to_owned(), Some(path.into()));
            return Ok(Self { authority, address: url.to_owned(), socket, token });
        }
        let expected = || {
            format!("expected a URL such as `http://127.0.0.1:9901` or `unix:/path`, found `{url}`")
        };
        let uri: Uri = url.parse().with_context(expected)?;
        let authority = match (uri.scheme_str(), uri.authority(), uri.path()) {
            (Some("http"), Some(authority), "" | "/") if !authority.as_str().contains('@') => {
                authority
            }
            _ => bail!(expected()),
        };
        let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        Ok(Self { authority: authority.to_string(), address, socket: None, token })
    }

    /// Replaces the component `name` by `bytes`. Returns the proxy's answer.
    ///
    /// # Errors
    /// The proxy can't be reached, or refuses the component.
    pub fn push(&self, name: &str, bytes: Vec<u8>) -> anyhow::Result<String> {
        self.ask(Method::PUT, &format!("/components/{}", checked(name)?), bytes.into())
    }

    /// Puts the previous version of the component `name` back. Returns the proxy's answer.
    ///
    /// # Errors
    /// The proxy can't be reached, or has no previous version.
    pub fn roll_back(&self, name: &str) -> anyhow::Result<String> {
        self.ask(Method::POST, &format!("/components/{}/rollback", checked(name)?), Bytes::new())
    }

    /// Loads changed components. Returns the proxy's answer.
    ///
    /// # Errors
    /// The proxy can't be reached, or refuses a component.
    pub fn reload(&self) -> anyhow::Result<String> {
        self.ask(Method::POST, "/reload", Bytes::new())
    }

    fn ask(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<String> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.authority)
            .body(Full::new(body))?;
        if let Some(token) = &self.token {
            request.headers_mut().insert(header::AUTHORIZATION, token.clone());
        }
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (status, text) = runtime.block_on(async {
            let asked = timeout(ANSWER_TIMEOUT, self.send(request)).await;
            let late = || {
                anyhow!(
                    "no answer within {} s; the change may still happen",
                    ANSWER_TIMEOUT.as_secs()
                )
            };
            let response = asked.unwrap_or_else(|_| Err(late()));
            response.with_context(|| self.address.clone())
        })?;
        let text = text.trim_end();
        if status.is_success() {
            Ok(text.to_owned())
        } else {
            bail!("{}: {status}: {text}", self.address)
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, String)> {
        match &self.socket {
            Some(path) => converse(connected(UnixStream::connect(path)).await?, request).await,
            None => converse(connected(TcpStream::connect(&self.address)).await?, request).await,
        }
    }
}

async fn connected<S>(connecting: impl Future<Output = io::Result<S>>) -> anyhow::Result<S> {
    Ok(timeout(CONNECT_TIMEOUT, connecting).await.context("can't be reached")??)
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<(StatusCode, String)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer.
    tokio::spawn(connection);
    let sent = sender.send_request(request).await;
    // A proxy that refuses a long component closes before it has read all of it.
    let response: Response<_> =
        sent.context("it closed the connection early: are the token and the name right?")?;
    let (head, body) = response.into_parts();
    let body =
        Limited::new(body, LONGEST_ANSWER).collect().await.map_err(|error| anyhow!("{error}"))?;
    Ok((head.status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}

/// Checks that a name is one that the configuration allows, so that it can stand in a path.
fn checked(name: &str) -> anyhow::Result<&str> {
    let is_name = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    ensure!(is_name, "`{name}` is not a component's name, which has letters, digits, `-` and `_`");
    Ok(name)
}

fn token(file: &Path) -> anyhow::Result<HeaderValue> {
    let place = || file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(place)?;
    let token = text.trim();
    if token.is_empty() {
        bail!("{}: is empty, expected a token", place());
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).with_context(place)?;
    value.set_sensitive(true);
    Ok(value)
}
