//! The cache as its users meet it: what is asked of the upstream, and what each client gets.

mod fills;
mod origin;
mod stale;
mod stored;

use std::sync::Arc;

use fusebox_resilience::config::Problem;
use fusebox_resilience::{CacheConfig, PolicyConfig, ResponseCache};

use crate::support::{Surroundings, problems};

#[track_caller]
fn cache(text: &str) -> Arc<ResponseCache> {
    let config: CacheConfig = toml::from_str(text).expect(text);
    let built: Result<_, Vec<Problem>> = config.build("cache".into(), &Surroundings::default());
    Arc::new(built.unwrap_or_else(|problems| panic!("{problems:?}")))
}

#[test]
fn configuration_errors_name_the_key() {
    let check = |text: &str| {
        problems(text, |config: CacheConfig| config.build("cache".into(), &Surroundings::default()))
    };
    assert_eq!(check(""), [""; 0]);
    assert_eq!(
        check("max_size = '1MiB'"),
        ["max_size: must be at least twice max_entry, 2MiB, is 1MiB"]
    );
    assert_eq!(check("max_entry = 0"), ["max_entry: must be at least 1KiB, is 0B"]);
    assert_eq!(
        check("max_size = 0\nmax_entry = 0"),
        [
            "max_entry: must be at least 1KiB, is 0B",
            "max_size: must be at least twice max_entry, 2KiB, is 0B",
        ]
    );
    for key in ["default_ttl", "stale_if_error", "stale_while_revalidate", "collapse_wait"] {
        let wrong = format!("{key}: must be 0s or at least 1ms, is 1us");
        assert_eq!(check(&format!("{key} = '1us'")), [wrong]);
    }
    assert_eq!(check("key = []"), ["key: must have from 1 to 8 sources, has 0"]);
    assert_eq!(check("handle_if = { component = 'a' }"), ["handle_if.component: no component `a`"]);
}
