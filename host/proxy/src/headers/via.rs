//! The name of this process in `Via`, which no other process has.

use std::sync::LazyLock;

use http::{HeaderValue, Version};

/// The name of this process in `Via`.
pub(super) static PSEUDONYM: LazyLock<String> =
    LazyLock::new(|| format!("fusebox-{:016x}", fastrand::u64(..)));
static VIA_10: LazyLock<HeaderValue> = LazyLock::new(|| via_of("1.0"));
static VIA_11: LazyLock<HeaderValue> = LazyLock::new(|| via_of("1.1"));
static VIA_2: LazyLock<HeaderValue> = LazyLock::new(|| via_of("2"));

/// Static for ever: all workers clone it, and would contend on a reference count.
fn via_of(version: &str) -> HeaderValue {
    HeaderValue::from_static(format!("{version} {}", *PSEUDONYM).leak())
}

/// What is added to `Via` for a message that came by this version.
pub(super) fn own_via(version: Version) -> &'static HeaderValue {
    match version {
        Version::HTTP_10 => &VIA_10,
        Version::HTTP_2 => &VIA_2,
        _ => &VIA_11,
    }
}
