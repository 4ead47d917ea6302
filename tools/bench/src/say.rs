//! Output for whoever waits.

/// Prints a line; nobody may be listening any more.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        writeln!(std::io::stdout(), $($argument)*).ok();
    }};
}
pub(crate) use say;
