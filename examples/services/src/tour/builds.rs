//! Two builds of one component, made without a compiler: the one that `make policies` has built,
//! and the same with other words in it.
//!
//! The words are looked for in the component's bytes. A compiler may have taken them apart; then
//! they stay as they are. A custom section, which WebAssembly allows at the end of every component,
//! makes the second build another one in any case.

/// The answer of the first build.
const WORDS: &str = "error accessing service B";
/// The answer of the second build, of the same length, since nothing in the file may move.
const OTHER_WORDS: &str = "service B is out to lunch";

/// A build, and the words in it.
#[derive(Debug)]
pub(super) struct Build {
    pub(super) component: Vec<u8>,
    pub(super) words: &'static str,
}

/// The build that is there, and the other.
pub(super) fn two(component: Vec<u8>) -> [Build; 2] {
    let mut other = component.clone();
    let words = match &occurrences(&component, WORDS)[..] {
        &[at] => {
            other[at..at + WORDS.len()].copy_from_slice(OTHER_WORDS.as_bytes());
            OTHER_WORDS
        }
        _ => WORDS,
    };
    append_custom_section(&mut other, "tour");
    [Build { component, words: WORDS }, Build { component: other, words }]
}

fn occurrences(component: &[u8], words: &str) -> Vec<usize> {
    let windows = component.windows(words.len()).enumerate();
    windows.filter(|(_, window)| *window == words.as_bytes()).map(|(at, _)| at).collect()
}

/// Appends a section with id 0 that has a name and nothing else. Lengths below 128 are one byte in
/// LEB128.
fn append_custom_section(component: &mut Vec<u8>, name: &str) {
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX).min(126);
    component.extend([0, length + 1, length]);
    component.extend(name.bytes().take(length.into()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_one_piece_are_replaced_and_nothing_moves() {
        let component = format!("before {WORDS} after").into_bytes();
        let [first, second] = two(component.clone());
        assert_eq!((first.component, first.words), (component.clone(), WORDS));
        assert_eq!(
            second.component[..component.len()],
            *format!("before {OTHER_WORDS} after").as_bytes()
        );
        assert_eq!(
            (&second.component[component.len()..], second.words),
            (&b"\0\x05\x04tour"[..], OTHER_WORDS)
        );
    }

    #[test]
    fn words_that_are_not_there_or_there_twice_are_left() {
        for component in ["nothing".to_owned(), format!("{WORDS}{WORDS}")] {
            let [_, second] = two(component.clone().into_bytes());
            assert_eq!(
                (&second.component[..component.len()], second.words),
                (component.as_bytes(), WORDS)
            );
        }
    }
}
