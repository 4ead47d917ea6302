//! The name of a process in `Via`, which no other has.

/// The text with `fusebox` in place of such a name.
pub(crate) fn without_pseudonym(text: &str) -> String {
    let mut parts = text.split("fusebox-");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        let rest = if digits == 16 { part.get(16..) } else { None };
        plain += &rest.map_or(format!("fusebox-{part}"), |rest| format!("fusebox{rest}"));
    }
    plain
}
