//! Connections to upstreams that are silent.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;

use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

use super::*;
use crate::config::{EndpointUrl, UpstreamConfig};
use crate::upstream::places::UpstreamPlaces;

/// An upstream that has greeted, and says nothing more; but it answers pings if it `answers`.
async fn greet(mut theirs: DuplexStream, answers: bool, pings: Rc<RefCell<Vec<Instant>>>) {
    theirs.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    theirs.read_exact(&mut [0; 24]).await.unwrap();
    let mut head = [0; 9];
    while theirs.read_exact(&mut head).await.is_ok() {
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        theirs.read_exact(&mut payload).await.unwrap();
        if head[3] == 6 {
            pings.borrow_mut().push(Instant::now());
            head[4] = 1;
            if answers {
                theirs.write_all(&[&head[..], &payload].concat()).await.unwrap();
            }
        }
    }
}

/// A connection to it, and when it was asked.
async fn connection(answers: bool) -> (Rc<SharedConnection>, Rc<RefCell<Vec<Instant>>>) {
    let (ours, theirs) = duplex(1 << 16);
    let pings = Rc::<RefCell<Vec<Instant>>>::default();
    spawn_local(greet(theirs, answers, pings.clone()));
    let address = (Ipv4Addr::LOCALHOST, 1).into();
    let places = UpstreamPlaces::new(1, Arc::default());
    let place = places.take().expect("it is free");
    let settings = UpstreamConfig::new(EndpointUrl::parse("http://b").unwrap()).settings;
    (SharedConnection::begin(ours, address, &settings, place, None).await.unwrap(), pings)
}

async fn ask(connection: Rc<SharedConnection>) -> Result<(), h2::Error> {
    let place = StreamPlace::take(connection);
    let request = Request::get("http://b/").version(http::Version::HTTP_2).body(()).unwrap();
    let (response, _stream) = place.send(request, true).unwrap();
    response.await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_answer_is_given_up_if_somebody_waits() {
    LocalSet::new()
        .run_until(async {
            let (connection, pings) = connection(false).await;
            let unused = connection.clone();
            sleep(Duration::from_secs(1000)).await;
            assert!(unused.is_open() && pings.borrow().is_empty(), "nobody waits");
            let begun = Instant::now();
            assert!(ask(connection.clone()).await.unwrap_err().is_io());
            let seconds = begun.elapsed().as_secs();
            assert!((10..=50).contains(&seconds), "{seconds}");
            assert_eq!(connection.end().unwrap().to_string(), "no answer to a ping");
            assert!(!connection.is_open());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn one_that_answers_is_asked_ever_more_seldom() {
    LocalSet::new()
        .run_until(async {
            let (connection, pings) = connection(true).await;
            let begun = Instant::now();
            let asked = ask(connection.clone());
            assert!(tokio::time::timeout(Duration::from_secs(1000), asked).await.is_err());
            assert!(connection.is_open());
            let pings = pings.borrow();
            let times: Vec<_> = pings.iter().map(|at| (*at - begun).as_secs()).collect();
            // The greeting was something, too.
            assert_eq!(times, [40, 80, 160, 320, 620, 920]);
        })
        .await;
}
