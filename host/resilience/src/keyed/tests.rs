//! States by key: whose is whose, how many there are, and which may go.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::event::{EventKind, Observers};
use crate::key::KeySourceConfig;
use crate::scope::Scope;
use crate::testing::{NoParts, Recorder, Script, call_with};

/// A state that is at rest, or not, as the test says.
#[derive(Debug, Default)]
struct Fake {
    number: usize,
    is_busy: AtomicBool,
}

impl KeyedState for Fake {
    fn is_at_rest(&self, _: Instant) -> bool {
        !self.is_busy.load(Ordering::Relaxed)
    }

    fn show(&self, _: Instant) -> Vec<(&'static str, Shown)> {
        vec![("number", Shown::Count(self.number as u64))]
    }
}

/// States by the header `x-tenant`, numbered as they are made, from 0 for those without.
fn keyed(text: &str) -> Keyed<Fake> {
    #[derive(Deserialize)]
    struct Table {
        key: Option<KeyConfig>,
        max_keys: Option<usize>,
        idle: Option<ConfigDuration>,
    }
    let text = format!("key = {{ header = \"x-tenant\" }}\n{text}");
    let Table { key, max_keys, idle } = toml::from_str(&text).unwrap();
    let mut problems = Problems::default();
    let settings = KeysConfig { key, max_keys, idle }.build(&NoParts, &mut problems);
    problems.into_result(()).unwrap();
    let made = AtomicUsize::new(0);
    Keyed::new(settings, move || Fake {
        number: made.fetch_add(1, Ordering::Relaxed),
        ..Fake::default()
    })
}

fn call(tenant: &str, observers: Observers) -> Call {
    let head = http::Request::get("/").header("x-tenant", tenant);
    call_with("1", head, crate::body::RequestBody::empty(), observers)
}

fn of<'a>(keyed: &'a Keyed<Fake>, tenant: &str) -> StateOf<'a, Fake> {
    of_call(keyed, &call(tenant, Observers::default()))
}

fn of_call<'a>(keyed: &'a Keyed<Fake>, call: &Call) -> StateOf<'a, Fake> {
    let (policy, upstream) = ("policy".into(), Script::new(""));
    keyed.of(call, Asker { policy: &policy, scope: &Scope::new(&upstream) })
}

fn busy(state: &Fake, is_busy: bool) {
    state.is_busy.store(is_busy, Ordering::Relaxed);
}

#[test]
fn each_value_has_its_own_state_and_those_without_share_one() {
    let keyed = keyed("");
    let numbers = ["red", "blue", "red", "", "green", ""].map(|of_| of(&keyed, of_).number);
    assert_eq!(numbers, [1, 2, 1, 0, 3, 0]);
    assert_eq!((keyed.count(), keyed.only().is_none()), (Some(3), true));
    assert_eq!(keyed.fold(0, |sum, state| sum + state.number), 6);
    let one = Keyed::new(None, Fake::default);
    assert_eq!((one.count(), one.only().is_some(), one.show()), (None, true, None));
    assert!(Arc::ptr_eq(&of(&one, "red"), &of(&one, "")));
}

#[test]
fn values_of_several_sources_do_not_run_together() {
    let settings = |sources: Vec<KeySourceConfig>| {
        let key = Some(KeyConfig(sources));
        KeysConfig { key, ..KeysConfig::default() }.build(&NoParts, &mut Problems::default())
    };
    let header = |name: &str| KeySourceConfig::Header(name.into());
    let keyed = Keyed::new(settings(vec![header("a"), header("b")]), Fake::default);
    let of = |a: &str, b: &str| {
        let head = http::Request::get("/").header("a", a).header("b", b);
        let body = crate::body::RequestBody::empty();
        Arc::as_ptr(&of_call(&keyed, &call_with("1", head, body, Observers::default())))
    };
    let all = [of("x", "yz"), of("xy", "z"), of("xyz", ""), of("", "xyz"), of("yz", "x")];
    for (index, one) in all.iter().enumerate() {
        assert!(!all[..index].contains(one), "{index}");
    }
    assert_eq!(of("x", "yz"), all[0]);
}

#[test]
fn the_longest_unused_that_nobody_misses_goes_or_newcomers_share_one() {
    let keyed = keyed("max_keys = 3");
    let recorder = Recorder::default();
    let number = |tenant: &str| of_call(&keyed, &call(tenant, recorder.observers())).number;
    let held = of(&keyed, "held");
    busy(&of(&keyed, "busy"), true);
    assert_eq!((held.number, number("rests"), number("newcomer")), (1, 3, 4));
    assert_eq!(number("rests"), 5, "it had gone, and the newcomer goes for it");
    busy(&of(&keyed, "rests"), true);
    let shared = [number("more"), number("others"), number("more")];
    assert_eq!((shared, keyed.count()), ([6; 3], Some(3)));
    let counts: Vec<_> = (recorder.kinds().into_iter())
        .map(|kind| match kind {
            EventKind::Keys(KeysEvent::Overflowed { count }) => count,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(counts, [Some(1), None, None], "told now and then");
    assert_eq!(["held", "busy", "rests"].map(number), [1, 2, 5], "nobody is forgotten");
    drop(held);
    let more = of(&keyed, "more");
    assert_eq!((more.number, number("held")), (7, 6), "its place was free, and no other");
    let shown = keyed.show().expect("there are keys");
    assert_eq!((shown.count, shown.max), (3, 3));
    assert_eq!(shown.overflow, Some(vec![("number", Shown::Count(6))]));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_used_for_long_goes_when_others_come() {
    let keyed = keyed("idle = \"10s\"");
    for tenant in ["a", "b", "c"] {
        of(&keyed, tenant);
    }
    busy(&of(&keyed, "c"), true);
    tokio::time::advance(Duration::from_secs(6)).await;
    of(&keyed, "b");
    tokio::time::advance(Duration::from_secs(5)).await;
    of(&keyed, "d");
    assert_eq!(keyed.count(), Some(3), "a has gone, c may not, b was used");
    assert_eq!(["b", "c", "a"].map(|tenant| of(&keyed, tenant).number), [2, 3, 5]);
}

#[tokio::test(start_paused = true)]
async fn the_busiest_are_shown() {
    let keyed = keyed("");
    for tenant in 0..40 {
        for _ in 0..=tenant {
            of(&keyed, &format!("t{tenant:02}"));
        }
    }
    let shown = || keyed.show().expect("there are keys");
    let calls = |shown: &ShownKeys| {
        let keys = shown.busiest.iter().map(|key| (key.key.to_string(), key.calls));
        keys.collect::<Vec<_>>()
    };
    let first = shown();
    assert_eq!((first.count, first.max, first.busiest.len()), (40, 10_000, 20));
    assert_eq!(calls(&first)[..2], [("t39".to_owned(), 40), ("t38".to_owned(), 39)]);
    assert_eq!(first.busiest[0].shown, [("number", Shown::Count(40))]);
    assert_eq!((first.none, first.overflow), (vec![("number", Shown::Count(0))], None));
    // Of this minute and the one before.
    tokio::time::advance(Duration::from_secs(60)).await;
    of(&keyed, "t00");
    assert_eq!(calls(&shown())[0], ("t39".to_owned(), 40));
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(calls(&shown())[0], ("t00".to_owned(), 1));
}

#[test]
fn an_operator_names_a_key_by_its_values() {
    let keyed = keyed("max_keys = 1");
    let named = |values: &[&str]| {
        let values: Vec<_> = values.iter().map(|value| (*value).to_owned()).collect();
        keyed.named(&values).map(|state| state.number)
    };
    let state = of(&keyed, "red");
    assert_eq!((named(&["red"]), state.number), (Ok(1), 1));
    assert_eq!(named(&["blue"]), Err("there are too many keys".into()));
    let how = "it has a state for each key: say which, by `?key=VALUE`";
    assert_eq!(named(&[]), Err(how.into()));
    assert_eq!(named(&["red", "blue"]), Err(how.into()));
    drop(state);
    assert_eq!(named(&["blue"]), Ok(2), "made for it");
    let one = Keyed::new(None, Fake::default);
    assert!(one.named(&[]).is_ok());
    let wrong = one.named(&["red".into()]).map(drop);
    assert_eq!(wrong, Err("it has no `key`: one state for all calls".into()));
}

#[test]
fn a_million_keys_and_one_of_a_megabyte_cost_what_is_allowed() {
    let keyed = keyed("max_keys = 1000");
    let long = "x".repeat(1 << 20);
    assert_eq!(of(&keyed, &long).number, of(&keyed, &long).number);
    assert_ne!(of(&keyed, &long).number, of(&keyed, &long[1..]).number);
    let each = keyed.each.as_ref().unwrap();
    for number in 0..1_000_000_u32 {
        let name = each.name([Some(&number.to_le_bytes()[..])].into_iter());
        let shown = ShownValues::default;
        assert!(each.lock().find_or_add(each, name, shown, Instant::now()).is_ok());
    }
    assert_eq!(keyed.count(), Some(1000));
}

#[derive(Clone, Debug)]
enum Step {
    Use { tenant: u8 },
    Hold { tenant: u8 },
    LetGo { which: usize },
    Turn { tenant: u8, is_busy: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let tenant = 0..30_u8;
    let step = prop_oneof![
        8 => tenant.clone().prop_map(|tenant| Step::Use { tenant }),
        2 => tenant.clone().prop_map(|tenant| Step::Hold { tenant }),
        2 => any::<usize>().prop_map(|which| Step::LetGo { which }),
        2 => (tenant, any::<bool>())
            .prop_map(|(tenant, is_busy)| Step::Turn { tenant, is_busy }),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    /// Held stands for in flight, busy for open or not full.
    #[test]
    fn there_are_never_too_many_and_none_goes_that_is_missed(
        max_keys in 1..12_usize,
        steps in steps(),
    ) {
        let keyed = keyed(&format!("max_keys = {max_keys}"));
        let mut held: Vec<(u8, usize, StateOf<'_, Fake>)> = Vec::new();
        // The number of each state that may not go.
        let mut missed = BTreeMap::<u8, usize>::new();
        let overflow = || keyed.each.as_ref().unwrap().overflow.get().map(|state| state.number);
        let own = |tenant: u8| {
            let state = of(&keyed, &tenant.to_string());
            (Some(state.number) != overflow()).then_some(state)
        };
        for step in steps {
            match step {
                Step::Use { tenant } => drop(own(tenant)),
                Step::Hold { tenant } => {
                    let state = own(tenant);
                    held.extend(state.map(|state| (tenant, state.number, state)));
                }
                Step::LetGo { which } if !held.is_empty() => {
                    held.swap_remove(which % held.len());
                }
                Step::LetGo { .. } => {}
                Step::Turn { tenant, is_busy } => {
                    if let Some(state) = own(tenant) {
                        busy(&state, is_busy);
                        if is_busy {
                            missed.insert(tenant, state.number);
                        } else {
                            missed.remove(&tenant);
                        }
                    }
                }
            }
            prop_assert!(keyed.count() <= Some(max_keys));
            let of_held = held.iter().map(|(tenant, number, _)| (*tenant, *number));
            for (tenant, number) in missed.clone().into_iter().chain(of_held) {
                prop_assert_eq!(own(tenant).map(|state| state.number), Some(number));
            }
        }
    }
}
