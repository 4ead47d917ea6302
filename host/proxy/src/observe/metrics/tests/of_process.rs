//! What is said of the process.

use super::*;

#[test]
fn what_linux_says_of_the_process_is_read() {
    let stat = "7 (a) name) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 123456 \
                1000000 500 18446744073709551615";
    assert_eq!(process::cpu_seconds(stat), Some(3.0));
    assert_eq!(process::start_after_boot(stat), Some(1234.56));
    assert_eq!(process::cpu_seconds("7 (a) S"), None);
    assert_eq!(process::cpu_seconds(""), None);
    assert_eq!(process::resident_bytes("Name:\ta\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
    assert_eq!(process::resident_bytes("Name:\ta\n"), None);
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_shows_itself() {
    let all = series(&Metrics::new().render(&Scrape::default()));
    for name in ["process_resident_memory_bytes", "process_start_time_seconds", "process_open_fds"]
    {
        assert!(all.get(name).is_some_and(|value| *value > 0.0), "{name}: {:?}", all.get(name));
    }
    assert!(all.contains_key("process_cpu_seconds_total"));
}
