//! The settings of every engine, and its errors as ours.

use wasmtime::Config;

/// The settings of every engine: code that one made runs in another only if they agree.
pub(crate) fn config() -> Config {
    let mut config = Config::new();
    config
        // A call costs three times as much with it, and nothing here is concurrent: an instance has
        // one call at a time.
        .concurrency_support(false)
        .epoch_interruption(true)
        // Guests are stripped as a rule, and their panic messages say more than frames without
        // names.
        .wasm_backtrace_max_frames(None);
    config
}

/// wasmtime's error as ours, the chain kept.
pub(crate) fn anyhow_of(error: wasmtime::Error) -> anyhow::Error {
    anyhow::Error::from_boxed(error.into_boxed_dyn_error())
}
