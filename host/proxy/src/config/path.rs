//! Paths of values, such as `policies.retry.backoff` or `routes[0].path`.

/// The path of a key of the table at `path`.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A step of a path: into a table or an array.
pub(super) enum PathStep<'a> {
    Key(&'a str),
    Index(usize),
}

/// The steps of a path from the top.
pub(super) fn steps(path: &str) -> impl Iterator<Item = PathStep<'_>> {
    path.split(['.', '[']).filter(|step| !step.is_empty()).map(|step| {
        match step.strip_suffix(']') {
            Some(index) => index.parse().map_or(PathStep::Key(step), PathStep::Index),
            None => PathStep::Key(step),
        }
    })
}
