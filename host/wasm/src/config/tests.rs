use std::time::Duration;

use super::*;

fn read(text: &str) -> Result<ComponentConfig, toml::de::Error> {
    toml::from_str(text)
}

#[test]
fn a_file_is_enough() {
    let config = read(r#"file = "policies/build/service_b.wasm""#).expect("it is complete");
    assert_eq!(config, ComponentConfig::new("policies/build/service_b.wasm"));
    assert_eq!(config.validate(), []);
    assert_eq!(config.peek(), None);
    assert_eq!(config.recycle_memory(), 32 << 20);
}

#[test]
fn sizes_and_durations_have_units_and_unknown_keys_are_refused() {
    let config =
        read("file = 'a.wasm'\npeek_body = '16KiB'\npeek_timeout = '50ms'\non_error = 'unhandled'");
    let config = config.expect("it is valid");
    assert_eq!(config.peek(), Some(Peek { bytes: 16 << 10, timeout: Duration::from_millis(50) }));
    assert_eq!(config.on_error, OnError::Unhandled);
    assert!(read("file = 'a.wasm'\nmemmory = '1MiB'").is_err());
}

#[test]
fn probation_is_a_time_or_a_number_of_calls_and_grants_are_words_that_are_known() {
    let config =
        read("file = 'a.wasm'\nprobation = 1000\ngrant = ['env:REGION']\nisolation = 'per-call'");
    let config = config.expect("it is valid");
    assert_eq!((config.probation, config.isolation), (Probation::Calls(1000), Isolation::PerCall));
    assert_eq!(config.grant, [Grant::Env("REGION".into())]);
    let timed = read("file = 'a.wasm'\nprobation = '5m'").expect("it is valid");
    assert_eq!(timed.probation, Probation::Time(ConfigDuration::from_secs(300)));
    for (wrong, why) in [
        ("probation = -1", "a number of calls"),
        ("probation = true", "a number of calls"),
        ("probation = '5'", "or a number of calls"),
        ("grant = ['env:']", "unknown grant `env:`; expected `env:NAME`"),
        ("grant = ['network']", "unknown grant `network`"),
    ] {
        let error = read(&format!("file = 'a.wasm'\n{wrong}")).expect_err(wrong).to_string();
        assert!(error.contains(why), "{wrong}: {error}");
    }
}

#[test]
fn everything_impossible_is_said_at_once() {
    let config = ComponentConfig {
        sha256: Some("abc".into()),
        peek_body: Some(ConfigSize::gib(1)),
        timeout: ConfigDuration::from_millis(0),
        memory: ConfigSize::kib(1),
        recycle_calls: 0,
        recycle_memory: Some(ConfigSize::kib(2)),
        stack: ConfigSize::mib(2),
        hostcall_bytes: ConfigSize(1),
        table_elements: 0,
        core_instances: 0,
        log_lines: 1_001,
        keep_versions: 11,
        host_calls: 0,
        quarantine_after: 0,
        quarantine_interval: ConfigDuration::from_millis(0),
        peek_timeout: ConfigDuration(Duration::from_nanos(1)),
        probation: Probation::Time(ConfigDuration(Duration::from_micros(100))),
        compile_memory: ConfigSize::mib(1),
        compile_timeout: ConfigDuration::from_secs(601),
        ..ComponentConfig::new("")
    };
    let problems = config.validate();
    let said: Vec<_> =
        problems.iter().map(|Problem { path, message }| format!("{path}: {message}")).collect();
    assert_eq!(
        said,
        [
            "file: must not be empty",
            "sha256: expected 64 hex digits, found `abc`",
            "memory: must be from 64KiB to 4GiB, is 1KiB",
            "stack: must be from 64KiB to 1MiB, is 2MiB",
            "hostcall_bytes: must be from 4KiB to 64MiB, is 1B",
            "compile_memory: must be from 64MiB to 16GiB, is 1MiB",
            "peek_body: must be from 1B to 1MiB, is 1GiB",
            "recycle_memory: must be from 64KiB to `memory`, which is 1KiB, is 2KiB",
            "timeout: must be from 1ms to 1m, is 0s",
            "compile_timeout: must be from 1ms to 10m, is 10m 1s",
            "peek_timeout: must be 0s or at least 1ms, is 1ns",
            "quarantine_interval: must be at least 1ms, is 0s",
            "probation: must be 0s or at least 1ms, is 100us",
            "table_elements: must be from 1 to 10000000, is 0",
            "core_instances: must be from 1 to 10000, is 0",
            "log_lines: must be from 0 to 1000, is 1001",
            "keep_versions: must be from 0 to 10, is 11",
            "recycle_calls: must be at least 1, is 0",
            "host_calls: must be at least 1, is 0",
            "quarantine_after: must be at least 1, is 0",
        ]
    );
}
