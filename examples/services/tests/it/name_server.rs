//! The name server: where it says that the service is, and what it is not told.

use std::net::{Ipv4Addr, UdpSocket};

use fusebox_dev::LIMIT;

use crate::support::{NAME_SERVER, Running, run};

/// Asks for the records of `_http._tcp.b.test`, of this type.
fn ask(server: &Running, kind: u8) -> Vec<u8> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let question =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05_http\x04_tcp\x01b\x04test\0";
    socket.send_to(&[&question[..], &[0, kind, 0, 1]].concat(), server.address).unwrap();
    let mut answer = vec![0; 512];
    let length = socket.recv(&mut answer).unwrap();
    answer.truncate(length);
    assert_eq!(answer[..2], question[..2]);
    answer
}

#[test]
fn it_says_where_the_service_is_by_priority() {
    let server = Running::start(NAME_SERVER, &["10:3001", "20:3011"]);
    let answer = ask(&server, 33);
    assert_eq!(answer[6..8], [0, 2], "two records");
    let has = |priority: u16, port: u16| {
        let record = [priority, 1, port].map(u16::to_be_bytes).concat();
        answer.windows(record.len()).any(|bytes| bytes == record)
    };
    assert!(has(10, 3001) && has(20, 3011), "{answer:?}");
    assert!(ask(&server, 1).ends_with(&[127, 0, 0, 1]));
    let none = ask(&server, 28);
    assert_eq!(none[6..8], [0, 0], "no address of IPv6");
}

#[test]
fn what_it_can_not_do_is_said_in_a_line() {
    let wrong = run(NAME_SERVER, &["3001"]);
    let expected = "expected a priority and a port such as `10:3001`, found `3001`";
    assert!(wrong.code == Some(2) && wrong.error.contains(expected), "{}", wrong.error);
    let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let wrong = run(NAME_SERVER, &["--listen", &taken]);
    assert_eq!((wrong.code, wrong.error.lines().count()), (Some(1), 1), "{}", wrong.error);
    assert!(wrong.error.starts_with(&format!("error: listen on `{taken}`: ")), "{}", wrong.error);
}
