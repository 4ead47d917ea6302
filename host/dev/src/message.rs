//! HTTP/1 messages: as they came, and as text to send.

/// A request or a response as it came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// The first line.
    pub start: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Without its framing.
    pub body: Vec<u8>,
    /// What came behind a chunked body.
    pub trailers: Vec<(String, String)>,
    /// Why the body is not all there.
    pub broken: Option<String>,
}

impl Message {
    pub(crate) fn parse(head: &str) -> Self {
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        Self { start, headers: fields(lines), ..Self::default() }
    }

    /// A header that must not be there twice.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values =
            self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let first = values.next();
        assert_eq!(values.next(), None, "`{name}` came twice");
        first
    }

    /// The status of a response.
    #[track_caller]
    pub fn status(&self) -> u16 {
        let status = self.start.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("no response: {self:?}"))
    }

    /// The second word of a request's first line.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The body, which is text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

pub(crate) fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let field = |line: &str| {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}"));
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    lines.filter(|line| !line.is_empty()).map(field).collect()
}

/// A GET of this path whose request id is `id`.
pub fn get(path: &str, id: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: b.example\r\nx-request-id: {id}\r\n\r\n")
}

/// A POST of this body to `/` whose request id is `id`.
pub fn post(body: &str, id: &str) -> String {
    let length = body.len();
    format!(
        "POST / HTTP/1.1\r\nhost: b.example\r\nx-request-id: {id}\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

/// A response with this status, more headers (each with its line end), and this body.
pub fn answer(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} Whatever\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

/// A 200 with this body.
pub fn ok(body: &str) -> String {
    answer(200, "", body)
}
