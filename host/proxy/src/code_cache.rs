//! `[code_cache]`: where compiled components are stored.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use fusebox_wasm::CodeCache;

use crate::config::CodeCacheConfig;

/// The name of our directory in a cache directory that programs share.
const NAME: &str = "fusebox";

/// The configured cache, or `None` if it is disabled. Its directory is relative to `directory`.
///
/// # Errors
/// The directory can't be used (see [`CodeCache::open`]), or there is no default
/// directory.
pub fn open(config: &CodeCacheConfig, directory: &Path) -> anyhow::Result<Option<CodeCache>> {
    if !config.enabled {
        return Ok(None);
    }
    let directory = match &config.directory {
        Some(configured) => directory.join(configured),
        None => default_directory(|name| std::env::var_os(name)).context(
            "none of `CACHE_DIRECTORY`, `XDG_CACHE_HOME` and `HOME` is an absolute path",
        )?,
    };
    Ok(Some(CodeCache::open(&directory)?.with_max_size(config.max_size)))
}

/// The directory that systemd made for the service, or else the user's cache directory. `variable`
/// looks up environment variables.
fn default_directory(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // A relative path would depend on the working directory.
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // It may list several directories.
    let service =
        variable("CACHE_DIRECTORY").and_then(|paths| std::env::split_paths(&paths).next());
    service
        .filter(|path| path.is_absolute())
        // For a service with a dynamic user, the directory is a link made by systemd. Other links
        // are refused.
        .map(|path| std::fs::canonicalize(&path).unwrap_or(path))
        .or_else(|| absolute("XDG_CACHE_HOME").map(|cache| cache.join(NAME)))
        .or_else(|| absolute("HOME").map(|home| home.join(".cache").join(NAME)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Option<PathBuf> {
        default_directory(|name| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_nearest_place_that_is_absolute_is_taken() {
        let (service, cache, home) =
            (("CACHE_DIRECTORY", "/var/cache/a:/b"), ("XDG_CACHE_HOME", "/c"), ("HOME", "/h"));
        assert_eq!(of(&[service, cache, home]), Some("/var/cache/a".into()));
        assert_eq!(of(&[cache, home]), Some("/c/fusebox".into()));
        assert_eq!(
            of(&[("CACHE_DIRECTORY", ""), ("XDG_CACHE_HOME", "c"), home]),
            Some("/h/.cache/fusebox".into())
        );
        assert_eq!(of(&[("HOME", "")]), None);
    }
}
