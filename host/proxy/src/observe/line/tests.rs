//! Times, and what needs an escape.

use super::*;

#[test]
fn a_byte_that_needs_an_escape_is_found_wherever_it_is() {
    for length in 1..=20 {
        for place in 0..length {
            for byte in 0..=u8::MAX {
                let mut text = vec![b'x'; length];
                text[place] = byte;
                let is_odd = !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\');
                assert_eq!(is_plain(&text), !is_odd, "{byte:#x} at {place} of {length}");
            }
        }
    }
    assert!(is_plain(b""));
}

#[test]
fn times_are_utc_with_microseconds() {
    let mut last = LastTime::default();
    let mut format = |time| String::from_utf8(last.text_of(SinceEpoch::of(time)).to_vec()).unwrap();
    let at = |seconds, nanoseconds| UNIX_EPOCH + Duration::new(seconds, nanoseconds);
    assert_eq!(format(at(0, 0)), r#""1970-01-01T00:00:00.000000Z""#);
    assert_eq!(format(at(0, 1_000)), r#""1970-01-01T00:00:00.000001Z""#);
    assert_eq!(format(at(86_399, 0)), r#""1970-01-01T23:59:59.000000Z""#);
    assert_eq!(format(at(86_400, 0)), r#""1970-01-02T00:00:00.000000Z""#);
    assert_eq!(format(at(0, 999_999_999)), r#""1970-01-01T00:00:00.999999Z""#);
    assert_eq!(format(at(1_724_153_856, 852_886_000)), r#""2024-08-20T11:37:36.852886Z""#);
    assert_eq!(format(at(951_782_400, 1_000)), r#""2000-02-29T00:00:00.000001Z""#);
    assert_eq!(format(UNIX_EPOCH - Duration::from_secs(5)), r#""1970-01-01T00:00:00.000000Z""#);
    assert_eq!(format(at(u64::MAX >> 2, 0)), r#""9999-12-30T22:00:00.000000Z""#);
}
