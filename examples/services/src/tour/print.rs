//! Output.

use std::io::Write;

/// Prints a text; a reader that has gone is no error.
pub(super) fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
