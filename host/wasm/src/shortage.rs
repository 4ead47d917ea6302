//! What the machine had none of when content was to be tried: nothing that the content is to blame
//! for, so it is tried again.

use std::fmt;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::Instant;

/// The least time until it is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// A try that takes long, and comes to nothing each time, takes a tenth of the time.
const REST: u32 = 9;

/// Something ran out that is there again once others have given it back.
#[derive(Debug)]
pub(crate) struct Shortage(pub(crate) String);

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Shortage {}

/// Whether that is why it could not be tried.
pub(crate) fn is_shortage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let code = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        let of_the_system = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN];
        cause.is::<Shortage>()
            || code.is_some_and(|code| of_the_system.iter().any(|it| it.raw_os_error() == code))
    })
}

/// When to try again what was tried from `began` until now.
pub(crate) fn try_again_at(began: Instant) -> Instant {
    let now = Instant::now();
    now + PAUSE.max(REST * (now - began))
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn what_is_there_again_later_is_told_from_what_is_wrong() {
        let of_system = |code: Errno| anyhow::Error::from(io::Error::from(code));
        for error in [
            of_system(Errno::MFILE),
            Err::<(), _>(of_system(Errno::AGAIN)).context("it can't be started").unwrap_err(),
            anyhow::Error::from(Shortage("killed".into())).context("in a try"),
        ] {
            assert!(is_shortage(&error), "{error:#}");
        }
        for error in [of_system(Errno::NOENT), of_system(Errno::ACCESS), anyhow!("no component")] {
            assert!(!is_shortage(&error), "{error:#}");
        }
    }
}
