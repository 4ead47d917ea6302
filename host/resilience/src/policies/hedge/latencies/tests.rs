use proptest::prelude::*;

use super::*;

fn counted(times: &[(u64, bool)]) -> LatencyCounts {
    let mut counts = LatencyCounts::default();
    for (micros, is_cut) in times {
        counts.record(Duration::from_micros(*micros), *is_cut);
    }
    counts
}

fn is_near(told: Duration, micros: u64) -> bool {
    (told.as_secs_f64() / Duration::from_micros(micros).as_secs_f64() - 1.0).abs() <= 0.05
}

#[test]
fn every_time_has_its_bucket_and_is_told_within_a_twentieth() {
    assert_eq!((bucket(Duration::ZERO), bucket(Duration::MAX)), (0, BUCKETS - 1));
    let mut micros = 20.0;
    while micros < 1.9e9 {
        let time = Duration::from_micros(micros as u64);
        assert!(is_near(middle(bucket(time)), micros as u64), "{time:?}");
        micros *= 1.01;
    }
}

#[test]
fn a_cut_one_counts_as_longer_than_it_ran() {
    // Nine of 10 ms; three were cut after 20 ms, and one that was not took 100 ms.
    let mut times = vec![(10_000, false); 9];
    times.extend([(20_000, true); 3]);
    times.push((100_000, false));
    let told = |quantile| counted(&times).quantile(quantile).unwrap();
    assert!(is_near(told(0.5), 10_000) && is_near(told(0.69), 10_000));
    assert!(is_near(told(0.8), 100_000), "had they not counted, 0.9 of ten were 10 ms");
    // All are cut: nobody knows, but not sooner than the last of them.
    assert!(is_near(counted(&[(10_000, true), (30_000, true)]).quantile(0.5).unwrap(), 30_000));
    assert_eq!(LatencyCounts::default().quantile(0.5), None);
}

proptest! {
    #[test]
    fn a_quantile_is_that_of_the_sorted_times(
        times in prop::collection::vec(20..10_000_000_u64, 1..200), quantile in 0.01..0.99_f64,
    ) {
        let mut sorted = times.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() as f64 * quantile - 1e-6).ceil().max(1.0) as usize;
        let all: Vec<_> = times.iter().map(|time| (*time, false)).collect();
        let told = counted(&all).quantile(quantile).unwrap();
        prop_assert!(is_near(told, sorted[rank - 1]), "{told:?} {}", sorted[rank - 1]);
    }

    #[test]
    fn cutting_never_makes_it_shorter(
        times in prop::collection::vec((20..10_000_000_u64, any::<bool>()), 1..100),
        quantile in 0.01..0.99,
    ) {
        // Had they all ended when they were cut.
        let ended: Vec<_> = times.iter().map(|(time, _)| (*time, false)).collect();
        prop_assert!(counted(&times).quantile(quantile) >= counted(&ended).quantile(quantile));
    }

    #[test]
    fn a_window_equals_its_brute_force_count(
        steps in prop::collection::vec((0..400_u64, 100..1_000_000_u64, any::<bool>()), 0..100),
    ) {
        let start = Instant::now();
        let slice = Duration::from_millis(20);
        let mut window = LatencyWindow::new(10 * slice, start);
        let (mut now, mut past) = (start, Vec::new());
        for (pause, micros, is_cut) in steps {
            now += Duration::from_millis(pause);
            window.record(Duration::from_micros(micros), is_cut, now);
            past.push((now, micros, is_cut));
            let inside = |at: &Instant| *at + 9 * slice > now;
            let least = past.iter().filter(|(at, ..)| inside(at)).count();
            let most = past.iter().filter(|(at, ..)| *at + 10 * slice > now).count();
            let counts = window.counts(now);
            prop_assert!((least..=most).contains(&counts.calls()));
            let last = &past[past.len() - counts.calls()..];
            let last: Vec<_> = last.iter().map(|(_, micros, is_cut)| (*micros, *is_cut)).collect();
            prop_assert_eq!(counts.quantile(0.7), counted(&last).quantile(0.7));
        }
    }
}
