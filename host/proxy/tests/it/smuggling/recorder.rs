//! [`Recorder`]: an upstream that takes only what is flawless, reads it by itself, and remembers
//! it.

use std::fmt;
use std::sync::Arc;

use fusebox_dev::{Origin, Wire};

use crate::smuggling::http1_upstream;
use crate::smuggling::http2_upstream;
use crate::smuggling::recorded::{Recorded, Records};

/// The upstream.
#[derive(Debug)]
pub(super) struct Recorder {
    origin: Origin,
    records: Arc<Records>,
}

impl Recorder {
    pub(super) fn http1() -> Self {
        Self::serving(http1_upstream::serve)
    }

    pub(super) fn http2() -> Self {
        Self::serving(http2_upstream::serve)
    }

    fn serving(
        serve: impl Fn(&mut Wire, &Records) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let records = Arc::<Records>::default();
        let of_origin = records.clone();
        let origin = Origin::start(move |connection| {
            if let Err(flaw) = serve(&mut connection.wire, &of_origin) {
                of_origin.complain(flaw);
            }
        });
        Self { origin, records }
    }

    /// How many heads have come.
    pub(super) fn count(&self) -> usize {
        self.records.all().len()
    }

    /// All that has come.
    pub(super) fn requests(&self) -> Vec<Recorded> {
        self.records.all().clone()
    }

    /// What was not flawless.
    pub(super) fn flaws(&self) -> Vec<String> {
        self.records.flaws()
    }
}

impl fmt::Display for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.origin.fmt(f)
    }
}
