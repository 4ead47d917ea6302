//! What upstreams over HTTP/2 do.

use fusebox_dev::{FramedConnection, Origin, RawFrame, flag, header_block, kind};

use super::faults::{Fault, Timing, Upstream};

fn does(
    name: &'static str,
    serve: impl Fn(&mut FramedConnection<'_>, u32) + Send + Sync + 'static,
) -> Fault {
    let upstream = Upstream::Origin(Origin::framed(serve));
    Fault { name, protocol: "http2", upstream, timing: Timing::Fast }
}

fn head(stream: u32, status: &str, is_last: bool) -> RawFrame {
    RawFrame::headers(stream, &[(":status", status)], is_last)
}

fn begin(peer: &mut FramedConnection<'_>, stream: u32) {
    peer.send(&[head(stream, "200", false), RawFrame::data(stream, "begun", false)]);
}

/// With the codes of RFC 9113, section 7.
const CODES: [(&str, u32); 14] = [
    ("resets the stream: NO_ERROR", 0),
    ("resets the stream: PROTOCOL_ERROR", 1),
    ("resets the stream: INTERNAL_ERROR", 2),
    ("resets the stream: FLOW_CONTROL_ERROR", 3),
    ("resets the stream: SETTINGS_TIMEOUT", 4),
    ("resets the stream: STREAM_CLOSED", 5),
    ("resets the stream: FRAME_SIZE_ERROR", 6),
    ("resets the stream: REFUSED_STREAM", 7),
    ("resets the stream: CANCEL", 8),
    ("resets the stream: COMPRESSION_ERROR", 9),
    ("resets the stream: CONNECT_ERROR", 10),
    ("resets the stream: ENHANCE_YOUR_CALM", 11),
    ("resets the stream: INADEQUATE_SECURITY", 12),
    ("resets the stream: HTTP_1_1_REQUIRED", 13),
];

pub(super) fn over_http2() -> Vec<Fault> {
    let resets = CODES.iter().map(|&(name, code)| {
        does(name, move |peer, stream| peer.send(&[RawFrame::reset(stream, code)]))
    });
    let mut faults = vec![
        does("answers 200", |peer, stream| {
            peer.send(&[head(stream, "200", false), RawFrame::data(stream, "whole", true)]);
        }),
        does("answers 429", |peer, stream| peer.answer(stream, "429")),
        does("answers 503", |peer, stream| peer.answer(stream, "503")),
    ];
    faults.extend(resets);
    faults.extend(others());
    faults
}

fn others() -> Vec<Fault> {
    vec![
        does("goes away from what it has not processed", |peer, _| {
            peer.send(&[RawFrame::go_away(0, 0)]);
        }),
        does("goes away, and answers", |peer, stream| {
            peer.send(&[RawFrame::go_away(stream, 0), head(stream, "200", true)]);
        }),
        does("goes away, and closes", |peer, stream| {
            peer.send(&[RawFrame::go_away(stream, 2)]);
            peer.close();
        }),
        does("closes before the head", |peer, _| peer.close()),
        does("closes within the head", |peer, stream| {
            peer.send(&[RawFrame::new(
                kind::HEADERS,
                0,
                stream,
                header_block(&[(":status", "200")]),
            )]);
            peer.close();
        }),
        does("closes within the body", |peer, stream| {
            begin(peer, stream);
            peer.close();
        }),
        does("resets the stream within the body: NO_ERROR", |peer, stream| {
            begin(peer, stream);
            peer.send(&[RawFrame::reset(stream, 0)]);
        }),
        does("resets the stream within the body: INTERNAL_ERROR", |peer, stream| {
            begin(peer, stream);
            peer.send(&[RawFrame::reset(stream, 2)]);
        }),
        does("resets the stream within the body: REFUSED_STREAM", |peer, stream| {
            begin(peer, stream);
            peer.send(&[RawFrame::reset(stream, 7)]);
        }),
        does("goes away within the body, and closes", |peer, stream| {
            begin(peer, stream);
            peer.send(&[RawFrame::go_away(stream, 0)]);
            peer.close();
        }),
        does("hangs", |_, _| {}).slow(),
        does("hangs within the body", begin).slow(),
        does("speaks no HTTP/2", |peer, _| {
            peer.wire.try_send("HTTP/1.1 400 Bad Request\r\n\r\n").ok();
        }),
        does("sends less than its length", |peer, stream| {
            let length = [(":status", "200"), ("content-length", "9")];
            peer.send(&[RawFrame::headers(stream, &length, false)]);
            peer.send(&[RawFrame::data(stream, "begun", true)]);
        }),
        does("sends a head that is no block", |peer, stream| {
            peer.send(&[RawFrame::new(kind::HEADERS, 5, stream, [0xff; 16])]);
        }),
        does("sends interim responses without end", |peer, stream| {
            let hint = head(stream, "103", false).with_flags(flag::END_HEADERS);
            for _ in 0..10 {
                peer.send(&vec![hint.clone(); 100]);
            }
        }),
        does("sends empty data without end", |peer, stream| {
            begin(peer, stream);
            peer.send(&vec![RawFrame::data(stream, [], false); 1_000]);
        }),
    ]
}
