//! The upstream of judges that are proxies: it answers every request, and writes down the whole
//! ones.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Result;
use bytes::BytesMut;
use fusebox_http1::{BodyDecoder, Decoded, RequestHeadParser};
use http::{HeaderMap, StatusCode};

/// What the record of a head begins with that is none to fusebox.
pub(crate) const HANDED_ON: &str = "refused";

/// What has come, in its order.
#[derive(Debug, Default)]
pub(crate) struct Records(Mutex<Vec<String>>);

impl Records {
    pub(crate) fn add(&self, record: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    /// Takes all until this one, if it is there.
    pub(crate) fn take_until(&self, last: &str) -> Option<Vec<String>> {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = records.iter().position(|record| record == last)?;
        let mut taken: Vec<String> = records.drain(..=at).collect();
        taken.pop();
        Some(taken)
    }
}

/// Starts one that lasts as long as this process.
pub(crate) fn record(records: &Arc<Records>) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let records = records.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let records = records.clone();
            thread::spawn(move || serve(stream, &records));
        }
    });
    Ok(address)
}

/// Until the connection ends.
fn serve(mut stream: TcpStream, records: &Records) -> Option<()> {
    let (mut parser, mut buffer) = (RequestHeadParser::new(64 * 1024), BytesMut::new());
    loop {
        let mut head = loop {
            match parser.parse_into(&mut buffer, HeaderMap::new) {
                Ok(Some(head)) => break head,
                Ok(None) => read(&mut stream, &mut buffer)?,
                Err(fault) => {
                    records.add(format!("{HANDED_ON}: {fault}"));
                    return None;
                }
            }
        };
        let (mut decoder, mut body) = (BodyDecoder::of_request(head.framing), String::new());
        if head.exchange.expects_continue() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
        }
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Decoded::Data(data)) => {
                    body.extend(data.iter().map(|byte| format!("{byte:02x}")));
                }
                Ok(Decoded::Trailers(_)) => {}
                Ok(Decoded::End) => break,
                Ok(Decoded::More) => read(&mut stream, &mut buffer)?,
                // Who streams a body may not know yet: it has the time to find out.
                Err(_) => loop {
                    buffer.clear();
                    read(&mut stream, &mut buffer)?;
                },
            }
        }
        records.add(format!("{} {body}", head.method));
        let mut answer = Vec::new();
        head.exchange.encode_response(
            StatusCode::OK,
            &HeaderMap::new().into(),
            [].into_iter(),
            Some(0),
            &mut answer,
        );
        stream.write_all(&answer).ok()?;
        if !head.exchange.is_kept_alive() {
            return None;
        }
    }
}

/// `None`: it has ended.
fn read(stream: &mut TcpStream, buffer: &mut BytesMut) -> Option<()> {
    let mut piece = [0; 4096];
    let length = stream.read(&mut piece).ok().filter(|length| *length > 0)?;
    buffer.extend_from_slice(&piece[..length]);
    Some(())
}
