//! The odd requests, read by this crate and by hyper.

use crate::requests::{FAMILIES, OddRequest};
use crate::served::{Ending, Served, hypers, is_one_and_the_same, ours};

fn all() -> impl Iterator<Item = (String, &'static OddRequest)> {
    let families = FAMILIES.iter();
    families
        .flat_map(|(family, odd)| odd.iter().map(move |it| (format!("{family}: {}", it.what), it)))
}

#[test]
fn what_we_see_is_what_is_written_down() {
    let told = all().map(|(what, odd)| (what, odd.seen, ours(&[odd.sent.as_bytes()]).to_string()));
    let wrong: Vec<_> = told.filter(|(_, written, seen)| written != seen).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn pieces_make_no_difference() {
    for (what, odd) in all() {
        let sent = odd.sent.as_bytes();
        let whole = ours(&[sent]);
        let bytes: Vec<&[u8]> = sent.chunks(1).collect();
        is_the_same(&ours(&bytes), &whole, &format!("{what}, byte by byte"));
        for cut in 0..sent.len() {
            let (first, second) = sent.split_at(cut);
            is_the_same(&ours(&[first, second]), &whole, &format!("{what}, cut at {cut}"));
        }
    }
}

#[track_caller]
fn is_the_same(apart: &Served, whole: &Served, what: &str) {
    assert!(apart.is_same_in_pieces(whole), "{what}: {apart}, and whole {whole}");
}

#[test]
fn what_is_cut_off_is_the_beginning_of_the_whole() {
    for (what, odd) in all() {
        let sent = odd.sent.as_bytes();
        let whole = ours(&[sent]);
        for length in 0..sent.len() {
            let begun = ours(&[&sent[..length]]);
            assert!(whole.requests.starts_with(&begun.requests), "{what}, {length} bytes of it");
        }
    }
}

#[test]
fn hyper_sees_the_same_but_where_it_is_known_why() {
    let mut wrong = Vec::new();
    for (what, odd) in all() {
        let pieces = [odd.sent.as_bytes()];
        let (ours, mut hypers) = (ours(&pieces), hypers(&pieces));
        let refuses = |served: &Served| matches!(served.ending, Ending::Refused(_));
        for (theirs, ours) in hypers.requests.iter_mut().zip(&ours.requests) {
            theirs.is_chunked = ours.is_chunked;
        }
        let is_same = ours.requests == hypers.requests && refuses(&ours) == refuses(&hypers);
        if is_same != odd.hyper.is_empty() {
            wrong.push(format!("{what}: we see {ours}, hyper {hypers}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_goes_on_is_one_request_and_the_same() {
    for (what, odd) in all() {
        for request in ours(&[odd.sent.as_bytes()]).requests {
            assert!(is_one_and_the_same(&request), "{what}: {request}");
        }
    }
}
