//! HTTP/1.1 as an upstream reads it that takes nothing else.

use fusebox_dev::Wire;

use crate::smuggling::recorded::{
    OF_ONE_CONNECTION, Recorded, Records, check_field, check_host, check_start,
};

/// Why a connection is read no further.
enum Stop {
    /// It has ended.
    End,
    Flaw(String),
}

impl From<String> for Stop {
    fn from(flaw: String) -> Self {
        Self::Flaw(flaw)
    }
}

fn flaw<T>(what: &str, found: impl AsRef<[u8]>) -> Result<T, Stop> {
    Err(Stop::Flaw(format!("{what}: {:?}", String::from_utf8_lossy(found.as_ref()))))
}

/// Serves a connection until its end, or until something is not flawless.
pub(super) fn serve(wire: &mut Wire, records: &Records) -> Result<(), String> {
    loop {
        match exchange(wire, records) {
            Ok(true) => {}
            Ok(false) | Err(Stop::End) => return Ok(()),
            Err(Stop::Flaw(flaw)) => return Err(flaw),
        }
    }
}

/// Reads a request and answers it by its id. `false`: there is none.
fn exchange(wire: &mut Wire, records: &Records) -> Result<bool, Stop> {
    let Some(first) = first_line(wire)? else { return Ok(false) };
    let (request, framing) = head(wire, &first)?;
    let (method, id) = (request.method.clone(), request.id().to_owned());
    let number = records.begin(request);
    match framing {
        Length::Of(length) => data(wire, length, number, records)?,
        Length::Chunks => chunks(wire, number, records)?,
    }
    records.change(number, |request| request.is_whole = true);
    let body = if method == "HEAD" { "" } else { &id };
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", id.len());
    Ok(wire.try_send(answer).is_ok())
}

/// How a body ends.
enum Length {
    Of(usize),
    Chunks,
}

/// `None`: the connection has ended.
fn first_line(wire: &mut Wire) -> Result<Option<String>, Stop> {
    let byte = wire.up_to(1);
    if byte.is_empty() { Ok(None) } else { line(wire, byte).map(Some) }
}

/// A line that has begun, up to CR and LF, of which none stands in it.
fn line(wire: &mut Wire, mut line: Vec<u8>) -> Result<String, Stop> {
    while !line.ends_with(b"\r\n") {
        let byte = wire.up_to(1);
        if byte.is_empty() {
            return Err(Stop::End);
        }
        line.extend(byte);
    }
    line.truncate(line.len() - 2);
    if line.iter().any(|byte| b"\r\n\0".contains(byte)) {
        return flaw("a line", line);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn fields(wire: &mut Wire) -> Result<Vec<(String, String)>, Stop> {
    let mut fields = Vec::new();
    loop {
        let line = line(wire, Vec::new())?;
        if line.is_empty() {
            return Ok(fields);
        }
        let Some((name, value)) = line.split_once(':') else { return flaw("no field", line) };
        let (name, value) = (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']));
        check_field(&name, value)?;
        fields.push((name, value.to_owned()));
    }
}

fn head(wire: &mut Wire, first: &str) -> Result<(Recorded, Length), Stop> {
    let parts: Vec<_> = first.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else { return flaw("a first line", first) };
    check_start(method, target)?;
    let mut fields = fields(wire)?;
    let mut take = |name: &str| {
        let found: Vec<_> = fields.extract_if(.., |(it, _)| it == name).collect();
        match &found[..] {
            [] => Ok(None),
            [(_, value)] => Ok(Some(value.clone())),
            _ => flaw("several", name),
        }
    };
    let (host, length, coding) =
        (take("host")?, take("content-length")?, take("transfer-encoding")?);
    let (connection, trailers) = (take("connection")?, take("te")?);
    let host = host.unwrap_or_default();
    check_host(&host)?;
    let framing = match (length.as_deref(), coding.as_deref()) {
        (None, None) => Length::Of(0),
        (None, Some("chunked")) => Length::Chunks,
        (Some(length), None) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            Length::Of(length.parse().map_err(|_| Stop::Flaw(format!("a length {length:?}")))?)
        }
        other => return Err(Stop::Flaw(format!("a length and a coding {other:?}"))),
    };
    let of_one = fields.iter().find(|(name, _)| OF_ONE_CONNECTION.contains(&name.as_str()));
    match (of_one, connection.as_deref(), trailers.as_deref()) {
        (Some((name, _)), ..) => flaw("ends at a proxy", name),
        // Whoever takes trailers has to name that.
        (None, options, Some(te)) if (options, te) != (Some("te"), "trailers") => flaw("te", te),
        (None, Some(options), None) if options != "close" => flaw("nominates", options),
        _ => {
            let (method, target) = (method.to_owned(), target.to_owned());
            let request = Recorded { method, target, host, fields, ..Recorded::default() };
            Ok((request, framing))
        }
    }
}

/// So much of a body.
fn data(wire: &mut Wire, length: usize, number: usize, records: &Records) -> Result<(), Stop> {
    let data = wire.up_to(length);
    let is_whole = data.len() == length;
    records.change(number, |request| request.body.extend(data));
    if is_whole { Ok(()) } else { Err(Stop::End) }
}

fn chunks(wire: &mut Wire, number: usize, records: &Records) -> Result<(), Stop> {
    loop {
        let size = line(wire, Vec::new())?;
        let is_size =
            (1..=8).contains(&size.len()) && size.bytes().all(|it| it.is_ascii_hexdigit());
        let Some(length) = is_size.then(|| usize::from_str_radix(&size, 16).ok()).flatten() else {
            return flaw("a chunk of the size", size);
        };
        if length == 0 {
            break;
        }
        data(wire, length, number, records)?;
        let end = line(wire, Vec::new())?;
        if !end.is_empty() {
            return flaw("a chunk longer than its size", end);
        }
    }
    let trailers = fields(wire)?;
    records.change(number, |request| request.trailers = trailers);
    Ok(())
}
