//! What WASI has for a fresh instance.

use wasmtime_wasi::WasiCtx;

use super::console::Console;
use crate::config::grant::Grant;

/// Random bytes that a guest gets at once; making them cannot be interrupted.
const RANDOM_BYTES: u64 = 64 << 10;

/// What a fresh instance finds: nothing but a console, and what it was granted.
pub(crate) fn context(console: &Console, grants: &[Grant]) -> WasiCtx {
    let mut builder = WasiCtx::builder();
    builder
        .stdout(console.clone())
        .stderr(console.clone())
        .max_random_size(RANDOM_BYTES)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    for grant in grants {
        // One that is not set, or is no text, is as absent for the guest as for the host.
        if let Grant::Env(name) = grant
            && let Ok(value) = std::env::var(name)
        {
            builder.env(name, value);
        }
    }
    builder.build()
}
