//! `[code_cache]`: where compiled components are kept.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytesize::ByteSize;
use fusebox_wasm::CodeCache;

use crate::config::CodeCacheConfig;

/// The name of our directory among those of other programs.
const NAME: &str = "fusebox";

/// The cache that `config` asks for, whose directory is relative to `directory`; none if it asks
/// for none.
///
/// # Errors
/// The directory can't be used, for reasons of [`CodeCache::open`]; or there is no default one.
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
    Ok(Some(CodeCache::open(&directory)?.with_max_size(ByteSize::b(config.max_size.bytes()))))
}

/// What systemd made for the service, else the user's cache. `variable` looks up environment
/// variables.
fn default_directory(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // A relative one would depend on where the program was started.
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // It may name several.
    let service =
        variable("CACHE_DIRECTORY").and_then(|paths| std::env::split_paths(&paths).next());
    service
        .filter(|path| path.is_absolute())
        // For a service with a dynamic user it is a link that systemd has made; any other link
        // would be refused.
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
