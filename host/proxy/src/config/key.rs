//! Keys that are made of parts of the request alone, where no component can be asked.

use fusebox_resilience::KeyConfig;
use fusebox_resilience::config::{Problem, Problems};

use super::table::Reader;

/// Reads the key at `path`. `None`: it is not there, or wrong, which has been reported.
pub(super) fn read(reader: &mut Reader<'_>, path: &str) -> Option<KeyConfig> {
    let key = reader.value::<KeyConfig>(path)?;
    let mut problems = Problems::default();
    key.clone().of_request(path, &mut problems);
    let Err(problems) = problems.into_result(()) else { return Some(key) };
    for Problem { path, message } in problems {
        reader.error(&path, message);
    }
    None
}
