//! In every order in which threads can get there: no place is lost, none is given twice, and nobody
//! is left waiting.

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::*;
use crate::sync::models::{block_on, model};

/// Waits on this thread until the place is there.
fn wait(line: InLine) -> Place {
    block_on(line).expect("nobody is of a higher rank")
}

fn poll_once(line: &mut InLine) -> Poll<Option<Place>> {
    Pin::new(line).poll(&mut Context::from_waker(Waker::noop()))
}

fn enter(room: &Arc<Room>) -> Place {
    match room.enter(usize::MAX) {
        Entry::Place(place) => place,
        Entry::Line(line) => wait(line),
        Entry::Full => unreachable!("the line has no end"),
    }
}

#[test]
fn as_many_as_there_are_places_are_inside_and_all_get_in() {
    for places in [1, 2] {
        model(move || {
            let room = Arc::new(Room::new(places));
            let inside = Arc::new(AtomicUsize::new(0));
            let visit = {
                let (room, inside) = (room.clone(), inside.clone());
                move || {
                    let place = enter(&room);
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < places);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(place);
                }
            };
            let others = [(); 2].map(|()| thread::spawn(visit.clone()));
            visit();
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!((room.taken(), room.waiting()), (0, 0));
        });
    }
}

#[test]
fn one_who_leaves_while_it_is_handed_a_place_passes_it_on() {
    model(|| {
        let room = Arc::new(Room::new(1));
        let Entry::Place(place) = room.enter(0) else { unreachable!("it is empty") };
        let Entry::Line(mut leaves) = room.enter(1) else { unreachable!("it is full") };
        let Entry::Line(stays) = room.enter(2) else { unreachable!("it is full") };
        assert!(matches!(room.enter(2), Entry::Full));
        assert!(poll_once(&mut leaves).is_pending());
        let leaving = thread::spawn(move || drop(leaves));
        let staying = thread::spawn(move || drop(wait(stays)));
        drop(place);
        leaving.join().unwrap();
        staying.join().unwrap();
        assert_eq!((room.taken(), room.waiting()), (0, 0));
    });
}

#[test]
fn a_room_that_grows_lets_those_in_who_wait_and_one_that_shrinks_nobody_until_there_is_room() {
    model(|| {
        let room = Arc::new(Room::new(1));
        let Entry::Place(place) = room.enter(0) else { unreachable!("it is empty") };
        let Entry::Line(line) = room.enter(1) else { unreachable!("it is full") };
        let waiting = thread::spawn(move || wait(line));
        room.resize(2).wake();
        let other = waiting.join().unwrap();
        assert_eq!((other.among(), room.taken()), (2, 2));
        room.resize(1).wake();
        drop(place);
        assert!(matches!(room.enter(0), Entry::Full), "one is inside still");
        drop(other);
        assert!(matches!(room.enter(0), Entry::Place(_)));
    });
}
