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
        peek_body: Some(ByteSize::gib(1)),
        timeout: ConfigDuration::from_millis(0),
        memory: ByteSize::kib(1),
        recycle_calls: 0,
        recycle_memory: Some(ByteSize::kib(2)),
        stack: ByteSize::mib(2),
        hostcall_bytes: ByteSize::b(1),
        table_elements: 0,
        core_instances: 0,
        log_lines: 1_001,
        keep_versions: 11,
        host_calls: 0,
        quarantine_after: 0,
        quarantine_interval: ConfigDuration::from_millis(0),
        compile_memory: ByteSize::mib(1),
        compile_timeout: ConfigDuration::from_secs(601),
        ..ComponentConfig::new("")
    };
    let paths: Vec<_> = config.validate().into_iter().map(|problem| problem.path).collect();
    let limits = [
        "file",
        "sha256",
        "peek_body",
        "timeout",
        "memory",
        "recycle_calls",
        "recycle_memory",
        "stack",
    ];
    assert_eq!(paths[..8], limits);
    let counts = [
        "hostcall_bytes",
        "table_elements",
        "core_instances",
        "log_lines",
        "keep_versions",
        "host_calls",
    ];
    assert_eq!(paths[8..14], counts);
    assert_eq!(
        paths[14..],
        ["quarantine_after", "quarantine_interval", "compile_memory", "compile_timeout"]
    );
}
