//! HTTP/2 as an upstream reads it that takes nothing else (RFC 9113, section 8).

use std::collections::HashMap;

use fusebox_dev::{HeaderDecoder, RawField, RawFrame, Wire, flag, kind};

use crate::smuggling::recorded::{
    OF_ONE_CONNECTION, Recorded, Records, check_field, check_host, check_start,
};

/// What is known of a connection.
struct Served<'a> {
    wire: &'a mut Wire,
    records: &'a Records,
    decoder: HeaderDecoder,
    /// The numbers of the requests that have not ended, by their streams.
    open: HashMap<u32, usize>,
    newest: u32,
}

/// Serves a connection until its end, or until something is not flawless.
pub(super) fn serve(wire: &mut Wire, records: &Records) -> Result<(), String> {
    if !wire.greets() {
        return Ok(());
    }
    wire.try_send(RawFrame::settings(&[]).bytes()).ok();
    let decoder = HeaderDecoder::default();
    let mut served = Served { wire, records, decoder, open: HashMap::new(), newest: 0 };
    while let Some(frame) = served.wire.frame() {
        if served.takes(frame)?.is_none() {
            break;
        }
    }
    Ok(())
}

impl Served<'_> {
    /// `None`: the connection has ended.
    fn takes(&mut self, frame: RawFrame) -> Result<Option<()>, String> {
        let is_last = frame.flags & flag::END_STREAM != 0;
        match frame.kind {
            kind::SETTINGS | kind::PING if frame.flags & flag::ACK == 0 => {
                let payload = if frame.kind == kind::PING { frame.payload } else { Vec::new() };
                return Ok(self.send(&[RawFrame::new(frame.kind, flag::ACK, 0, payload)]));
            }
            kind::SETTINGS | kind::PING | kind::WINDOW_UPDATE | kind::GOAWAY => {}
            kind::HEADERS => return self.headers(frame),
            kind::DATA if frame.flags & !flag::END_STREAM == 0 => {
                let number = *self.open.get(&frame.stream).ok_or("data of no request")?;
                let length = frame.payload.len() as u32;
                self.records.change(number, |request| request.body.extend(frame.payload));
                if length > 0 && !is_last {
                    let more = [0, frame.stream].map(|it| RawFrame::window_update(it, length));
                    return Ok(self.send(&more));
                }
                if is_last {
                    return self.end(frame.stream);
                }
            }
            kind::RESET => {
                self.open.remove(&frame.stream);
            }
            _ => return Err(format!("a frame {frame:?}")),
        }
        Ok(Some(()))
    }

    fn send(&mut self, frames: &[RawFrame]) -> Option<()> {
        self.wire.try_send(frames.iter().flat_map(RawFrame::bytes).collect::<Vec<_>>()).ok()
    }

    /// A head, or trailers.
    fn headers(&mut self, frame: RawFrame) -> Result<Option<()>, String> {
        let (stream, is_last) = (frame.stream, frame.flags & flag::END_STREAM != 0);
        if frame.flags & !(flag::END_STREAM | flag::END_HEADERS) != 0 {
            return Err(format!("flags of {frame:?}"));
        }
        let (mut block, mut flags) = (frame.payload, frame.flags);
        while flags & flag::END_HEADERS == 0 {
            let Some(more) = self.wire.frame() else { return Ok(None) };
            if (more.kind, more.stream) != (kind::CONTINUATION, stream) {
                return Err(format!("{more:?} within a head"));
            }
            block.extend(more.payload);
            flags = more.flags;
        }
        let fields = self.decoder.decode(&block)?;
        if let Some(number) = self.open.get(&stream) {
            let trailers = plain(fields)?;
            self.records.change(*number, |request| request.trailers = trailers);
            if !is_last {
                return Err("trailers that are not the end".into());
            }
        } else {
            if stream % 2 == 0 || stream <= self.newest {
                return Err(format!("a new stream {stream} after {}", self.newest));
            }
            self.newest = stream;
            self.open.insert(stream, self.records.begin(request(fields)?));
        }
        if is_last { self.end(stream) } else { Ok(Some(())) }
    }

    /// A request is whole: it is answered by its id.
    fn end(&mut self, stream: u32) -> Result<Option<()>, String> {
        let number = self.open.remove(&stream).ok_or("an end of no request")?;
        let (id, length, received) = self.records.change(number, |request| {
            request.is_whole = true;
            let length = request.field("content-length").to_owned();
            (request.id().to_owned(), length, request.body.len().to_string())
        });
        if !length.is_empty() && length != received {
            return Err(format!("{received} bytes of {length}"));
        }
        let head = [(":status", "200"), ("content-length", &id.len().to_string())];
        let is_head = self.records.change(number, |request| request.method == "HEAD");
        let mut answer = vec![RawFrame::headers(stream, &head, is_head)];
        if !is_head {
            answer.push(RawFrame::data(stream, id, true));
        }
        Ok(self.send(&answer))
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Fields without pseudo-headers among them.
fn plain(fields: Vec<RawField>) -> Result<Vec<(String, String)>, String> {
    let mut plain = Vec::new();
    for (name, value) in fields.into_iter().map(|(name, value)| (text(name), text(value))) {
        check_field(&name, &value)?;
        let ends = [&OF_ONE_CONNECTION[..], &["connection", "transfer-encoding"]].concat();
        if ends.contains(&name.as_str()) && (name.as_str(), value.as_str()) != ("te", "trailers") {
            return Err(format!("{name}, which ends at a proxy"));
        }
        plain.push((name, value));
    }
    Ok(plain)
}

fn request(mut fields: Vec<RawField>) -> Result<Recorded, String> {
    let count = fields.iter().take_while(|(name, _)| name.starts_with(b":")).count();
    let pseudo = fields.drain(..count);
    let pseudo: Vec<_> = pseudo.map(|(name, value)| (text(name), text(value))).collect();
    let one = |name: &str| {
        let mut found = pseudo.iter().filter(|(it, _)| it == name).map(|(_, value)| value.clone());
        match (found.next(), found.next()) {
            (Some(value), None) => Ok(value),
            _ => Err(format!("not one {name}: {pseudo:?}")),
        }
    };
    let (method, target) = (one(":method")?, one(":path")?);
    check_start(&method, &target)?;
    let host = one(":authority")?;
    check_host(&host)?;
    if pseudo.len() != 4 || one(":scheme")? != "http" {
        return Err(format!("pseudo-headers {pseudo:?}"));
    }
    let fields = plain(fields)?;
    if fields.iter().filter(|(name, _)| name == "content-length").count() > 1 {
        return Err(format!("several lengths: {fields:?}"));
    }
    if let Some((name, value)) = fields.iter().find(|(name, _)| name == "host") {
        return Err(format!("{name}: {value} beside an authority"));
    }
    Ok(Recorded { method, target, host, fields, ..Recorded::default() })
}
