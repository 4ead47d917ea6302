//! How long a neighbour waits for connections with many streams.

use fusebox_dev::{FrozenThread, GET, Origin, RawFrame, Wire, get, kind, ok};

use crate::support::Proxy;

/// With its worker stopped within the bursts of many connections, and a neighbour's request sent
/// then, the log tells how many of the bursts came first.
#[test]
fn connections_with_many_streams_delay_a_neighbour_by_a_few_of_each() {
    const CONNECTIONS: usize = 15;
    const STREAMS: u32 = 100;
    const ALL: usize = CONNECTIONS * STREAMS as usize;
    let origin = Origin::answering([ok("")]);
    let config = "workers = 1\n[[routes]]\npath = '/known'\nupstream = 'ORIGIN'\n";
    let proxy = Proxy::before(&origin, config);
    let mut neighbour = proxy.connect();
    let mut delays = Vec::new();
    for round in 0..20 {
        let path = format!("/burst-{round}");
        let fields = [GET[0], GET[1], (":path", path.as_str()), GET[3]];
        let burst: Vec<u8> = (0..STREAMS)
            .flat_map(|number| RawFrame::headers(2 * number + 1, &fields, true).bytes())
            .collect();
        let mut wires: Vec<Wire> = (0..CONNECTIONS).map(|_| proxy.connect()).collect();
        for wire in &mut wires {
            wire.begin_http2(&[]);
            wire.frame_of(kind::SETTINGS);
        }
        for wire in &mut wires {
            wire.send(&burst);
        }
        let is_of_burst = |line: &&serde_json::Value| line["request"]["path"] == path.as_str();
        wires[0].frame_of(kind::HEADERS);
        let worker = FrozenThread::of(proxy.id(), "worker-0");
        let id = format!("neighbour-{round}");
        let before = proxy.lines("404: Not Found").iter().filter(is_of_burst).count();
        neighbour.send(get("/unknown", &id));
        drop(worker);
        assert_eq!(neighbour.response().status(), 404);
        let answered = proxy.wait("all requests", |lines| {
            let all = lines.iter().filter(is_of_burst).count() == ALL;
            let end = lines.iter().position(|line| line["request_id"] == id.as_str())?;
            all.then(|| lines[..end].iter().filter(is_of_burst).count())
        });
        // The worker may have done it all.
        if before < ALL / 2 {
            delays.push(answered - before);
        }
        if delays.len() == 3 {
            break;
        }
    }
    assert!(!delays.is_empty(), "the worker was never stopped within the bursts");
    // Each of them has a turn or two of four requests before it, and the log is behind by some.
    assert!(delays.iter().all(|delay| *delay <= 300), "{delays:?}");
}
