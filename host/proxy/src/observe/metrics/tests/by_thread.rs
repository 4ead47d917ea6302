//! What is counted by threads and added up: requests and attempts.

use std::thread;

use super::*;

#[test]
fn a_route_is_found_by_its_name() {
    // A reload makes the names anew.
    let metrics = Metrics::new();
    observe(&metrics, Some(&on_route("r")), None, finished(Some(200)));
    observe(&metrics, Some(&on_route("r")), None, finished(Some(200)));
    assert_eq!(
        counted(&metrics, &Scrape::default()),
        [r#"requests_total{route="r",status="200"} 2"#]
    );
}

#[test]
fn threads_lose_no_count() {
    let metrics = Metrics::new();
    thread::scope(|scope| {
        for thread in 0..4 {
            let metrics = &metrics;
            scope.spawn(move || {
                let routes = [on_route("a"), on_route("b")];
                for number in 0..2000_u16 {
                    let call = &routes[usize::from(number) % 2];
                    observe(metrics, Some(call), None, attempt(AttemptOutcome::Response(200)));
                    observe(metrics, Some(call), None, finished(Some(200 + number % 10 / 2)));
                    let scheduled =
                        EventKind::Retry(RetryEvent::Scheduled { retry: 1, delay: Duration::ZERO });
                    observe(metrics, Some(call), Some("retry"), scheduled);
                    if thread == 0 && number % 100 == 0 {
                        metrics.render(&Scrape::default());
                    }
                }
            });
        }
    });
    let all = series(&metrics.render(&Scrape::default()));
    let sum = |name: &str| {
        all.iter().filter(|(series, _)| series.starts_with(name)).map(|(_, value)| value).sum()
    };
    for name in
        ["requests_total", "attempts_total", "retries_total", "request_duration_seconds_count"]
    {
        let total: f64 = sum(&format!("fusebox_{name}"));
        assert_eq!(total, 8000.0, "{name}");
    }
}

#[test]
fn what_a_thread_has_counted_outlives_it_and_the_next_goes_on() {
    let metrics = Metrics::new();
    for _ in 0..10 {
        thread::scope(|scope| {
            scope
                .spawn(|| observe(&metrics, Some(&on_route("r")), None, finished(Some(200))))
                .join()
                .unwrap();
        });
    }
    assert_eq!(
        counted(&metrics, &Scrape::default()),
        [r#"requests_total{route="r",status="200"} 10"#]
    );
    // A scope waits for what it runs, not for what a thread drops last.
    let (shards, _) = requests::sizes(&metrics.requests);
    assert!(shards < 10, "{shards}");
}

#[test]
fn names_that_a_reload_has_replaced_are_forgotten() {
    let metrics = Metrics::new();
    for _ in 0..1000 {
        let routes = [on_route("a"), on_route("b")];
        routes.iter().for_each(|route| observe(&metrics, Some(route), None, finished(Some(200))));
    }
    let (_, known) = requests::sizes(&metrics.requests);
    assert!(known < 50, "{known}");
    assert_eq!(
        counted(&metrics, &Scrape::default()),
        [
            r#"requests_total{route="a",status="200"} 1000"#,
            r#"requests_total{route="b",status="200"} 1000"#
        ]
    );
}

#[test]
fn two_registries_on_one_thread_do_not_mix() {
    let (one, other) = (Metrics::new(), Metrics::new());
    let route = on_route("r");
    for _ in 0..5 {
        observe(&one, Some(&route), None, finished(Some(200)));
        observe(&other, Some(&route), None, finished(Some(503)));
    }
    assert_eq!(counted(&one, &Scrape::default()), [r#"requests_total{route="r",status="200"} 5"#]);
    assert_eq!(
        counted(&other, &Scrape::default()),
        [r#"requests_total{route="r",status="503"} 5"#]
    );
}

#[test]
fn a_duration_counts_up_to_its_bound_and_in_the_sum() {
    let metrics = Metrics::new();
    let route = on_route("r");
    for micros in [0, 500, 501, 60_000_000, 60_000_001] {
        let elapsed = Duration::from_micros(micros);
        let outcome = AttemptOutcome::Response(200);
        observe(
            &metrics,
            Some(&route),
            None,
            EventKind::Attempt(AttemptEvent::Finished { attempt: 1, outcome, elapsed }),
        );
    }
    let text = metrics.render(&Scrape::default());
    let shown: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("fusebox_attempt_duration_seconds_"))
        .collect();
    let [first, second, .., last_bound, beyond, sum, count] = &shown[..] else { panic!("{text}") };
    assert_eq!(*first, r#"bucket{route="r",le="0.0005"} 2"#);
    assert_eq!(*second, r#"bucket{route="r",le="0.001"} 3"#);
    assert_eq!(*last_bound, r#"bucket{route="r",le="60"} 4"#);
    assert_eq!(*beyond, r#"bucket{route="r",le="+Inf"} 5"#);
    assert_eq!(*sum, r#"sum{route="r"} 120.001002"#);
    assert_eq!(*count, r#"count{route="r"} 5"#);
    assert_eq!(shown.len(), 16 + 1 + 2);
}
