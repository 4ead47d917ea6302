//! Output on the terminal.

/// Prints a line; a reader that has gone is no error.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        writeln!(std::io::stdout(), $($argument)*).ok();
    }};
}
pub(crate) use say;
