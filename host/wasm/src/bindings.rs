//! What `bindgen!` makes of `wit/policy.wit`; nothing else.
//!
//! The world `every` has every interface of the contract, so its bindings serve all its worlds.
//! Imported functions may trap (`trappable`): a guest that calls one where it may not is cut off by
//! an error that the host can tell from others.

wasmtime::component::bindgen!({
    path: "../../wit",
    inline: "
        package fusebox:host;

        world every {
            include fusebox:policy/policy@0.1.0;
            include fusebox:policy/delay-policy@0.1.0;
            include fusebox:policy/key-policy@0.1.0;
        }
    ",
    world: "fusebox:host/every",
    imports: { default: trappable },
});
