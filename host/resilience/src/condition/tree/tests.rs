use http::{HeaderMap, StatusCode};
use proptest::prelude::*;

use super::*;
use crate::body::ResponseBody;

#[test]
fn attempts_are_a_number_or_a_bound() {
    for (text, range) in [
        ("1", Some((1, 1))),
        ("=3", Some((3, 3))),
        (">=2", Some((2, u32::MAX))),
        (">2", Some((3, u32::MAX))),
        ("<=4", Some((1, 4))),
        ("<4", Some((1, 3))),
        ("0", Some((0, 0))),
        ("=0", Some((0, 0))),
        ("<1", None),
        (">=0", None),
        (">4294967295", None),
        ("", None),
        (">=", None),
        ("=>2", None),
        ("2+", None),
        ("+2", None),
        ("99999999999", None),
    ] {
        let expected = range.map(|(from, to)| AttemptRange { from, to });
        assert_eq!(AttemptRange::parse(text), expected, "{text}");
    }
}

/// A tree whose leaves are components, and what it comes to, given all their answers.
fn part() -> impl Strategy<Value = Part> {
    let leaf = (0..4_usize).prop_map(|index| Part::Component { index, only: None });
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Part::Any),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Part::All),
            inner.prop_map(|part| Part::Not(Box::new(part))),
        ]
    })
}

fn plainly(part: &Part, answers: [bool; 4]) -> bool {
    match part {
        Part::Component { index, .. } => answers[*index],
        Part::Any(parts) => parts.iter().any(|part| plainly(part, answers)),
        Part::All(parts) => parts.iter().all(|part| plainly(part, answers)),
        Part::Not(part) => !plainly(part, answers),
        other => panic!("{other:?}"),
    }
}

proptest! {
    /// Asked one by one, only as long as something is open, the answers come to the same as if all
    /// were known, and nobody is asked twice.
    #[test]
    fn asking_only_what_is_open_comes_to_the_same(part in part(), answers in any::<[bool; 4]>()) {
        let response = Response::new(StatusCode::OK, HeaderMap::new(), ResponseBody::empty());
        let outcome = Ok(response);
        let judged = Judged { method: &Method::GET, attempt: 1, seen: Seen::Outcome(&outcome) };
        let mut known = [None; 4];
        let holds = loop {
            match part.holds(judged, &|index| known[index]) {
                Ok(holds) => break holds,
                Err(Missing::Answer(index)) => {
                    prop_assert_eq!(known[index], None, "asked twice");
                    known[index] = Some(answers[index]);
                }
                Err(Missing::Head) => panic!("it is known"),
            }
        };
        prop_assert_eq!(holds, plainly(&part, answers));
    }
}
