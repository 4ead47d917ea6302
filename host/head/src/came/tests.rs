use std::fmt::Write as _;

use http::header;
use proptest::prelude::*;

use super::*;
use crate::fields::{FieldMemory, HeaderFields};

/// A field of a head, as it is written there.
#[derive(Clone, Debug)]
struct Line {
    name: &'static str,
    /// Between name and value, and behind the value.
    around: (&'static str, &'static str),
    value: String,
}

const NAMES: [&str; 12] = [
    "a",
    "A",
    "b",
    "x-Other",
    "Set-Cookie",
    "set-cookie",
    "Content-Length",
    "Transfer-Encoding",
    "Connection",
    "X-Request-Id",
    "UNDER_score-and-More.of~it",
    "Cache-Control",
];

/// What is asked for: those names and one that nobody has, which looks like another.
fn names() -> Vec<HeaderName> {
    let names = NAMES.iter().chain(&["xa", "none"]);
    names.map(|name| HeaderName::from_bytes(name.as_bytes()).expect("a name")).collect()
}

fn line() -> impl Strategy<Value = Line> {
    let around = [(": ", "\r\n"), (": ", "\r\n"), (": ", "\r\n"), (":", "\r\n")];
    let odd = [(":\t ", " \r\n"), (": ", "\n"), (":  ", "\t\n")];
    let around: Vec<_> = around.into_iter().chain(odd).collect();
    (prop::sample::select(NAMES.to_vec()), prop::sample::select(around), "([!-~](.{0,6}[!-~])?)?")
        .prop_map(|(name, around, value)| {
            let value = value.replace(|it: char| it.is_control(), "\t");
            Line { name, around, value }
        })
}

/// A head in both forms.
fn both(lines: &[Line]) -> (HeaderFields, HeaderMap) {
    let (came, map) = came(lines);
    (came.into(), map)
}

fn came(lines: &[Line]) -> (CameFields, HeaderMap) {
    let mut head = "HTTP/1.1 200 OK\r\n".to_owned();
    let (mut places, mut map) = (Vec::new(), HeaderMap::new());
    for Line { name, around, value } in lines {
        let start = head.len();
        write!(head, "{name}{}{value}{}", around.0, around.1).expect("a text");
        let value_start = start + name.len() + around.0.len();
        places.push([start..start + name.len(), value_start..value_start + value.len()]);
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        map.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
    }
    head.push_str("\r\n");
    let mut index = FieldIndex::default();
    assert!(index.add(places.into_iter()));
    (CameFields::new(head.as_bytes().into(), index), map)
}

/// What went out of a map before there was another form.
fn written(map: &HeaderMap, except: &[HeaderName]) -> Vec<u8> {
    let of_hop = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION];
    let mut out = Vec::new();
    for (name, value) in map {
        if !of_hop.contains(name) && !except.contains(name) {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

/// Asks both everything.
fn compare(fields: &HeaderFields, map: &HeaderMap, except: &[HeaderName]) {
    assert_eq!((fields.len(), fields.is_empty()), (map.len(), map.is_empty()));
    let of_map = map.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    assert!(fields.iter().eq(of_map), "{fields:?} {map:?}");
    for name in names() {
        assert_eq!(fields.contains(&name), map.contains_key(&name), "{name}");
        assert_eq!(fields.get(&name), map.get(&name).map(HeaderValue::as_bytes), "{name}");
        assert!(fields.get_all(&name).eq(map.get_all(&name).iter().map(HeaderValue::as_bytes)));
    }
    const SOME: NameSet = NameSet::new(&["b", "none", "connection"]);
    const NONE: NameSet = NameSet::new(&["xa", "none", "other"]);
    let has_some = map.contains_key("b") || map.contains_key("connection");
    assert_eq!((fields.contains_any(&SOME), fields.contains_any(&NONE)), (has_some, false));
    let mut out = b"before".to_vec();
    fields.put_into(&mut out, except.iter());
    assert_eq!(out[6..], written(map, except), "without {except:?}");
    assert!(fields.to_map().iter().eq(map.iter()), "{fields:?}");
    assert_eq!(format!("{fields:?}"), format!("{map:?}"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn bytes_answer_as_a_map_does_and_go_out_as_it_did(
        lines in prop_oneof![
            9 => prop::collection::vec(line(), 0..10),
            1 => prop::collection::vec(line(), SHORT..2 * SHORT),
        ],
        removed in prop::collection::vec(prop::sample::select(names()), 0..4),
        except in prop::collection::vec(prop::sample::select(names()), 0..3),
    ) {
        let (mut fields, mut map) = both(&lines);
        compare(&fields, &map, &except);
        for name in &removed {
            fields.remove(name);
            map.remove(name);
            compare(&fields, &map, &except);
        }
        // A map that is made now is that map, whatever is done to it.
        for headers in [fields.map_mut(), &mut map] {
            headers.insert(header::VIA, HeaderValue::from_static("1.1 b"));
            headers.append("a", HeaderValue::from_static("z"));
        }
        compare(&fields, &map, &except);
        prop_assert!(fields.into_map().iter().eq(map.iter()));
    }

    #[test]
    fn of_several_the_first_stays_with_a_part_of_its_value(
        lines in prop::collection::vec(line(), 0..10),
        name in prop::sample::select(names()),
        from in 0..3usize,
    ) {
        let (mut came, map) = came(&lines);
        let first = map.get(&name).cloned();
        let part = first.as_ref().map_or(0..0, |value| from.min(value.len())..value.len());
        came.keep_first(&name, part.clone());
        let mut expected = map;
        if let Some(first) = first {
            let value = HeaderValue::from_bytes(&first.as_bytes()[part]).expect("a value");
            expected.insert(&name, value);
        }
        compare(&came.into(), &expected, &[]);
    }

    #[test]
    fn a_name_is_put_into_lower_case_and_nothing_else(mut name in "[!-~]{0,40}") {
        let mut ours = name.clone().into_bytes();
        make_lower(&mut ours);
        name.make_ascii_lowercase();
        prop_assert_eq!(ours, name.into_bytes());
    }
}

#[test]
fn an_index_takes_what_it_has_numbers_for() {
    for (name, end, is_taken) in [
        (0..65_535, 65_540, true),
        (0..65_536, 65_540, false),
        (10..20, u32::MAX as usize, true),
        (10..20, u32::MAX as usize + 1, false),
    ] {
        let mut index = FieldIndex::default();
        let value = end - 1..end;
        assert_eq!(index.add([[name.clone(), value]].into_iter()), is_taken, "{name:?}, {end}");
    }
}

#[test]
fn memory_is_handed_on_without_fields() {
    let (fields, _) = both(&[Line { name: "a", around: (": ", "\r\n"), value: "1".into() }]);
    let FieldMemory::Index(index) = fields.into_memory() else { panic!("it came as bytes") };
    assert!(index.capacity() > 0);
    assert!(HeaderFields::from(CameFields::new(BytesMut::new(), index)).is_empty());
}

/// Bytes: responses are moved from policy to policy.
#[test]
fn fields_are_no_larger_than_a_map() {
    assert_eq!(size_of::<HeaderFields>(), size_of::<HeaderMap>());
    assert_eq!(size_of::<FieldPlace>(), 16);
}
