//! What `bindgen!` makes of `wit/policy.wit`; nothing else.
//!
//! The world `policy` has every interface of the contract, so its bindings serve the smaller worlds
//! too. Imported functions may trap (`trappable`): a guest that calls one where it may not is cut
//! off by an error that the host can tell from others.

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "policy",
    imports: { default: trappable },
});
