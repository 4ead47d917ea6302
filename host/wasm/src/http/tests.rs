//! Guests by script, with the end of an epoch in every place where one may be: what an answer came
//! to must not depend on it.

use std::cell::RefCell;
use std::future::pending;
use std::rc::Rc;
use std::time::SystemTime;

use bytes::Bytes;
use fusebox_resilience::{
    Call, Error, ErrorKind, Fault, Outcome, Request, RequestBody, Slot, Worker,
};
use http::{HeaderValue, StatusCode, header};
use http_body_util::Empty;
use tokio::sync::oneshot;
use tokio::time::sleep;
use wasmtime::UpdateDeadline;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p2::body::{HostOutgoingBody, HyperOutgoingBody, StreamContext};

use super::head::GuestResponse;
use super::run::GuestAnswer;
use super::time::ProcessorTime;
use super::*;
use crate::wasi::console::Console;

/// What a guest does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// An epoch ends meanwhile.
    Epoch,
    Answers(u16),
    AnswersWithoutBody(u16),
    AnswersAnError,
    DropsAnswer,
    Writes(&'static str),
    /// As guests in Rust do that expect a reader.
    WritesOrTraps(&'static str),
    Finishes,
    DropsBody,
    Pauses(Duration),
    Waits,
    Traps,
    /// It exceeds a limit.
    Exceeds(Fault),
}
use Step::*;

/// A guest that returns at the end of its script.
async fn guest(
    script: Vec<Step>,
    head: oneshot::Sender<GuestAnswer>,
    length: Option<u64>,
    time: Arc<ProcessorTime>,
) -> Result<(), GuestFailure> {
    let (mut host, body) = HostOutgoingBody::new(StreamContext::Response, length, 1, 1024);
    let mut stream = host.take_output_stream();
    let (mut host, mut body, mut head) = (Some(host), Some(body), Some(head));
    let answer = |head: &mut Option<oneshot::Sender<GuestAnswer>>, answer| {
        let sent = head.take().expect("one answer").send(answer);
        assert!(sent.is_ok(), "somebody waits for it");
    };
    for step in script {
        match step {
            Epoch => match time.look().expect("it has time") {
                UpdateDeadline::YieldCustom(_, others) => others.await,
                _ => unreachable!("others have their turn"),
            },
            Answers(status) => {
                let body = body.take().expect("one body");
                answer(&mut head, Ok(response(status, length, body)));
            }
            AnswersWithoutBody(status) => {
                let empty = Empty::<Bytes>::new().map_err(|never| match never {});
                answer(&mut head, Ok(response(status, None, empty.boxed_unsync())));
            }
            AnswersAnError => answer(&mut head, Err(ErrorCode::InternalError(None))),
            DropsAnswer => drop(head.take()),
            Writes(text) => {
                let stream = stream.as_mut().expect("it is not finished");
                stream.ready().await;
                stream.write(text.into()).ok();
            }
            WritesOrTraps(text) => {
                let stream = stream.as_mut().expect("it is not finished");
                stream.ready().await;
                stream.write(text.into()).map_err(|_| failure(Fault::Trap))?;
            }
            Finishes => {
                drop(stream.take());
                host.take().expect("one end").finish(None).ok();
            }
            DropsBody => {
                drop(stream.take());
                host.take().expect("one end").abort();
            }
            Pauses(time) => sleep(time).await,
            Waits => pending().await,
            Traps => return Err(failure(Fault::Trap)),
            Exceeds(fault) => return Err(failure(fault)),
        }
    }
    Ok(())
}

fn failure(fault: Fault) -> GuestFailure {
    GuestFailure::of_answer(fault, "as scripted".into(), &Console::new(0))
}

fn response(status: u16, length: Option<u64>, body: HyperOutgoingBody) -> GuestResponse {
    let mut response = http::Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    if let Some(length) = length {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    response
}

fn start(script: Vec<Step>, length: Option<u64>) -> GuestRun {
    let (sender, head) = oneshot::channel();
    let time = Arc::new(ProcessorTime::new(Duration::from_secs(3600)));
    let guest = guest(script, sender, length, time.clone());
    GuestRun::new(Box::pin(guest), head, time, Console::new(0))
}

/// What was told of an answer, however often.
type Told = Rc<RefCell<Vec<Option<Fault>>>>;

struct Recorder(Told);

impl super::Told for Recorder {
    fn succeeded(&mut self) {
        self.0.borrow_mut().push(None);
    }

    fn failed(&mut self, failure: GuestFailure) {
        self.0.borrow_mut().push(Some(failure.fault));
    }
}

/// Who reads a body.
#[derive(Clone, Copy, Debug)]
enum Reader {
    ToTheEnd,
    /// No further than to the length that was announced.
    ToTheLength,
}

const HOUR: ConfigDuration = ConfigDuration(Duration::from_secs(3600));

/// What the client got of the body, and what was told.
#[derive(Clone, Debug, PartialEq)]
struct Came {
    text: String,
    is_broken: bool,
    told: Vec<Option<Fault>>,
}

async fn head(run: &mut GuestRun) -> Result<Answered, GuestFailure> {
    let (head, ()) = http::Request::new(()).into_parts();
    let request =
        Request::new(HeaderValue::from_static("id"), "/".into(), head, SystemTime::UNIX_EPOCH);
    let call = Call::new(request, RequestBody::empty(), Worker::unobserved().into());
    let outcome: Outcome = Err(Error::new(ErrorKind::Timeout));
    run.head(&Exchange::of(&call, &outcome, call.route(), Slot::Respond), HOUR).await
}

async fn read(script: Vec<Step>, length: Option<u64>, reader: Reader) -> Came {
    let mut run = start(script, length);
    let answered = head(&mut run).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(answered.length, length);
    let told = Told::default();
    let body = answered.body.expect("a body");
    let mut body = GuestBody::new(run, body, length, Recorder(told.clone()), HOUR);
    let (mut text, mut is_broken) = (String::new(), false);
    let is_enough = |text: &String| match reader {
        Reader::ToTheEnd => false,
        Reader::ToTheLength => length.is_some_and(|length| text.len() as u64 >= length),
    };
    while !is_enough(&text)
        && let Some(frame) = body.frame().await
    {
        match frame {
            Ok(frame) => {
                text += &String::from_utf8_lossy(frame.data_ref().expect("no trailers"));
            }
            Err(_) => is_broken = true,
        }
    }
    drop(body);
    let told = told.borrow().clone();
    Came { text, is_broken, told }
}

/// The script, with and without the end of an epoch between any two of its steps.
fn with_epochs(script: &[Step], from: usize) -> impl Iterator<Item = Vec<Step>> {
    let gaps = script.len() - from + 1;
    (0..1_u32 << gaps).map(move |epochs| {
        let mut steps = script[..from].to_vec();
        for gap in 0..gaps {
            steps.extend((epochs & (1 << gap) != 0).then_some(Epoch));
            steps.extend(script.get(from + gap));
        }
        steps
    })
}

#[tokio::test(start_paused = true)]
async fn what_a_body_came_to_does_not_depend_on_where_epochs_end() {
    let unfinished = Some(Fault::BadAnswer);
    for (length, script, text, told) in [
        (None, &[Writes("a"), Finishes][..], "a", None),
        (None, &[Writes("a"), Finishes, Waits], "a", None),
        (None, &[Writes("a"), Writes("b"), Writes("c"), Writes("d"), Finishes], "abcd", None),
        (None, &[Writes("a"), Finishes, Traps], "a", Some(Fault::Trap)),
        (None, &[Writes("a"), Finishes, Exceeds(Fault::Memory)], "a", Some(Fault::Memory)),
        (None, &[Writes("a"), Traps], "a", Some(Fault::Trap)),
        (None, &[Writes("a"), Writes("b"), Writes("c"), Traps], "abc", Some(Fault::Trap)),
        (None, &[Writes("a"), DropsBody], "a", unfinished),
        (None, &[Writes("a"), DropsBody, Waits], "a", unfinished),
        (None, &[Writes("a"), DropsBody, Traps], "a", Some(Fault::Trap)),
        (None, &[Writes("a"), DropsBody, Exceeds(Fault::Timeout)], "a", Some(Fault::Timeout)),
        (None, &[Writes("a"), DropsBody, Waits, Traps], "a", unfinished),
        (Some(2), &[Writes("a"), Writes("b"), Finishes], "ab", None),
        (Some(2), &[Writes("ab"), Waits], "ab", None),
        (Some(2), &[Writes("ab"), Finishes, Traps], "ab", Some(Fault::Trap)),
        (Some(2), &[Writes("ab"), Traps], "ab", Some(Fault::Trap)),
        (Some(2), &[Writes("ab"), DropsBody], "ab", unfinished),
        (Some(2), &[Writes("ab"), DropsBody, Traps], "ab", Some(Fault::Trap)),
        (Some(2), &[Writes("a"), Finishes], "a", unfinished),
        (Some(2), &[Writes("a"), Finishes, Traps], "a", Some(Fault::Trap)),
        (Some(2), &[Writes("a")], "a", unfinished),
    ] {
        for reader in [Reader::ToTheEnd, Reader::ToTheLength] {
            let mut is_broken = told.is_some();
            if let (Reader::ToTheLength, Some(length)) = (reader, length) {
                is_broken &= (text.len() as u64) < length;
            }
            let expected = Came { text: text.to_owned(), is_broken, told: vec![told] };
            // A guest that fails in the poll in which it answers has no body: it waits before.
            let script = [&[Answers(200), Pauses(Duration::from_secs(1))], script].concat();
            for steps in with_epochs(&script, 1) {
                let came = read(steps.clone(), length, reader).await;
                assert_eq!(came, expected, "{reader:?} {length:?} {steps:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn why_there_is_no_answer_does_not_depend_on_where_epochs_end() {
    for (script, expected) in [
        (&[][..], Some(Fault::BadAnswer)),
        (&[Traps], Some(Fault::Trap)),
        (&[DropsAnswer], Some(Fault::BadAnswer)),
        (&[DropsAnswer, Waits], Some(Fault::BadAnswer)),
        (&[DropsAnswer, Traps], Some(Fault::Trap)),
        (&[AnswersAnError, Waits], Some(Fault::BadAnswer)),
        (&[AnswersAnError, Traps], Some(Fault::Trap)),
        (&[AnswersAnError, Exceeds(Fault::Memory)], Some(Fault::Memory)),
        (&[Answers(101), Waits], Some(Fault::BadAnswer)),
        (&[Answers(101), DropsBody, Traps], Some(Fault::Trap)),
        (&[AnswersWithoutBody(200)], None),
        (&[AnswersWithoutBody(204), Waits], None),
        (&[AnswersWithoutBody(200), Traps], Some(Fault::Trap)),
        (&[Answers(204), Writes("a"), Finishes, Exceeds(Fault::Timeout)], Some(Fault::Timeout)),
        (&[Answers(204), WritesOrTraps("a"), Finishes], None),
        (&[Answers(204), WritesOrTraps("a"), Waits], None),
        (&[Answers(101), WritesOrTraps("a"), Finishes], Some(Fault::BadAnswer)),
        (&[Waits], Some(Fault::Timeout)),
    ] {
        for steps in with_epochs(script, 0) {
            let answered = head(&mut start(steps.clone(), None)).await;
            assert_eq!(answered.err().map(|failure| failure.fault), expected, "{steps:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_of_no_length_is_none() {
    for (script, expected) in
        [(&[Answers(200), Waits][..], Ok(false)), (&[Answers(200), Traps], Err(Fault::Trap))]
    {
        for steps in with_epochs(script, 0) {
            let answered = head(&mut start(steps.clone(), Some(0))).await;
            let came = answered.map(|answered| answered.body.is_some());
            assert_eq!(came.map_err(|failure| failure.fault), expected, "{steps:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_even_if_nobody_reads_what_came_before_it() {
    let script =
        vec![Answers(200), Pauses(Duration::from_secs(1)), Writes("a"), Writes("b"), Traps];
    let mut run = start(script, None);
    let answered = head(&mut run).await.expect("an answer");
    let told = Told::default();
    let body = answered.body.expect("a body");
    let mut body = GuestBody::new(run, body, None, Recorder(told.clone()), HOUR);
    let first = body.frame().await.expect("a frame").expect("it is whole");
    assert_eq!(first.into_data().expect("data"), "a");
    drop(body);
    assert_eq!(*told.borrow(), [Some(Fault::Trap)]);
}

#[tokio::test(start_paused = true)]
async fn who_kept_the_other_waiting_took_too_long() {
    let second = Duration::from_secs(1);
    let limit = ConfigDuration(second * 10);
    let slow_guest = [Pauses(second), Writes("a")].repeat(20);
    let slow_client = [Writes("a")].repeat(20);
    for (script, pause, expected) in
        [(slow_guest, Duration::ZERO, vec![Some(Fault::Timeout)]), (slow_client, second, vec![])]
    {
        for from in 0..2 {
            let mut run = start([&[Answers(200)], &script[from..]].concat(), None);
            let answered = head(&mut run).await.expect("an answer");
            let told = Told::default();
            let body = answered.body.expect("a body");
            let mut body = GuestBody::new(run, body, None, Recorder(told.clone()), limit);
            while let Some(Ok(_)) = body.frame().await {
                sleep(pause).await;
            }
            drop(body);
            assert_eq!(*told.borrow(), expected);
        }
    }
}
