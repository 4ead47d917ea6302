//! The memory of all components together: its bound, and what is given back.

use fusebox_dev::{Origin, eventually, get, handle_if, is_status, ok, predicate, wat_component};
use serde_json::json;

use crate::support::Proxy;

/// With every question it needs 16 MiB more, and traps if it gets none.
fn grows() -> Vec<u8> {
    wat_component(&handle_if(
        "(if (i32.eq (memory.grow (i32.const 256)) (i32.const -1)) (then unreachable))
         (i32.const 0)",
    ))
}

const CONFIG: &str = "workers = 1\nmax_component_memory = '40MiB'\n\
    [components.greedy]\nfile = 'greedy.wasm'\nmemory = '256MiB'\nprobe = false\n\
    quarantine_after = 1\n\
    [components.modest]\nfile = 'modest.wasm'\n\
    [policies.greedy]\nkind = 'retry'\nhandle_if = { component = 'greedy' }\n\
    [policies.modest]\nkind = 'retry'\nhandle_if = { component = 'modest' }\n\
    [[routes]]\npath = '/greedy'\nupstream = 'ORIGIN'\npolicies = ['greedy']\n\
    [[routes]]\nupstream = 'ORIGIN'\npolicies = ['modest']\n";

fn held(proxy: &Proxy, component: &str) -> u64 {
    let held = &proxy.state()["components"][component]["memory_bytes"];
    held.as_u64().expect("a number")
}

#[test]
fn a_component_that_wants_all_memory_gets_no_more_than_there_is_for_all_and_gives_it_back() {
    let origin = Origin::answering([ok("fine")]);
    let modest = predicate(&is_status(418));
    let files = [("greedy.wasm", &*grows()), ("modest.wasm", &modest)];
    let proxy = Proxy::with_files(&origin, &files, CONFIG);
    let ask = |path: &str, id: &str| assert_eq!(proxy.ask(get(path, id)).text(), "fine", "{id}");
    let faults = || proxy.lines("Component faulted: total-memory");
    for id in ["1", "2"] {
        ask("/greedy", id);
        ask("/", "modest");
    }
    assert!(held(&proxy, "greedy") > 32 << 20);
    assert_eq!(faults(), [json!(null); 0]);
    ask("/greedy", "3");
    let fault = proxy.line("Component faulted: total-memory");
    assert_eq!((&fault["component"], &fault["request_id"]), (&json!("greedy"), &json!("3")));
    let detail = fault["detail"].as_str().expect("a detail");
    let said = "all components together would hold more than 40MiB of memory: ";
    assert!(detail.starts_with(said), "{detail}");
    assert_eq!(held(&proxy, "greedy"), 0, "the instance is gone");
    let state = proxy.state()["components"]["greedy"]["state"].clone();
    assert_eq!(state, "probation", "it is not to blame");
    // It goes on, and so do the others.
    ask("/greedy", "4");
    ask("/", "modest");
    assert_eq!(faults().len(), 1);

    assert!(held(&proxy, "greedy") > 16 << 20);
    eventually("its memory", || (held(&proxy, "greedy") < 1 << 20).then_some(()));
    assert_eq!(proxy.state()["components"]["greedy"]["instances"], 1, "a fresh one is ready");
    ask("/greedy", "5");
}
