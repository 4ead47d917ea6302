use proptest::prelude::*;
use wasmtime::{Engine, Instance, Memory, Module as Compiled, Store, TypedFunc};

use super::*;

/// Few bytes, so that what is moved takes many steps and an uneven rest.
const SHORT_STEP: u32 = 7;

const MEMORY: u64 = 1 << 16;

/// All moves, by 32-bit addresses or 64-bit ones.
fn moves(address: &str, memory: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (memory (export "memory") {memory} 1) (memory $other i64 1)
            (data $data "0123456789abcdefghijklmnopqrstuvwxyz")
            (func $unused)
            (func (export "fill") (param {address} i32 {address})
              (memory.fill (local.get 0) (local.get 1) (local.get 2)))
            (func (export "copy") (param {address} {address} {address})
              (memory.copy (local.get 0) (local.get 1) (local.get 2)))
            (func (export "init") (param {address} i32 i32)
              (memory.init $data (local.get 0) (local.get 1) (local.get 2)))
            (func (export "between") (param i64)
              (memory.fill $other (i64.const 5) (i32.const 42) (local.get 0))))"#
    );
    wat::parse_str(text).expect("valid text")
}

struct Tested {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
}

impl Tested {
    fn new(wasm: &[u8]) -> Self {
        let engine = Engine::default();
        let module = Compiled::new(&engine, wasm).expect("a valid module");
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).expect("it starts");
        let memory = instance.get_memory(&mut store, "memory").expect("it is exported");
        for (index, byte) in memory.data_mut(&mut store).iter_mut().enumerate() {
            *byte = (index % 251) as u8;
        }
        Self { store, instance, memory }
    }

    /// Whether it went well.
    fn call(&mut self, name: &str, parameters: [u64; 3]) -> bool {
        if let Ok(narrow) =
            self.instance.get_typed_func::<(u32, u32, u32), ()>(&mut self.store, name)
        {
            let parameters = parameters.map(|value| u32::try_from(value).expect("it fits"));
            return narrow.call(&mut self.store, parameters.into()).is_ok();
        }
        let [to, from, length] = parameters;
        let narrow = |value: u64| u32::try_from(value).expect("it fits");
        match name {
            "fill" => {
                let wide: TypedFunc<(u64, u32, u64), ()> = self.typed(name);
                wide.call(&mut self.store, (to, narrow(from), length)).is_ok()
            }
            "init" => {
                let wide: TypedFunc<(u64, u32, u32), ()> = self.typed(name);
                wide.call(&mut self.store, (to, narrow(from), narrow(length))).is_ok()
            }
            _ => {
                let wide: TypedFunc<(u64, u64, u64), ()> = self.typed(name);
                wide.call(&mut self.store, (to, from, length)).is_ok()
            }
        }
    }

    fn typed<P: wasmtime::WasmParams>(&mut self, name: &str) -> TypedFunc<P, ()> {
        self.instance.get_typed_func(&mut self.store, name).expect("it has these parameters")
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn steps_do_what_the_instruction_does(
        wide in any::<bool>(),
        calls in prop::collection::vec(
            (0..3_usize, 0..MEMORY, 0..40_u64, 0..100_u64, any::<bool>()),
            1..20,
        ),
    ) {
        let wasm = if wide { moves("i64", "i64") } else { moves("i32", "") };
        let stepped = module(&wasm, SHORT_STEP).expect("it can be read");
        prop_assert_ne!(&stepped, &wasm);
        let (mut whole, mut steps) = (Tested::new(&wasm), Tested::new(&stepped));
        for (function, to, distance, length, up) in calls {
            let from = if up { to.saturating_add(distance) } else { to.saturating_sub(distance) };
            let name = ["fill", "copy", "init"][function];
            let from = if function == 2 { distance } else { from };
            let went_well = whole.call(name, [to, from, length]);
            prop_assert_eq!(steps.call(name, [to, from, length]), went_well);
            if !went_well {
                return Ok(());
            }
            prop_assert!(whole.memory.data(&whole.store) == steps.memory.data(&steps.store));
        }
    }
}

#[test]
fn what_is_short_stays_and_so_does_a_module_that_moves_nothing() {
    let short = format!(
        "(module (memory 1) (func (memory.fill (i32.const 0) (i32.const 1) (i32.const {STEP}))))"
    );
    let long = short.replace(&STEP.to_string(), &(STEP + 1).to_string());
    let negative = short.replace(&STEP.to_string(), "-1");
    for (text, is_changed) in
        [("(module)", false), (&*short, false), (&*long, true), (&*negative, true)]
    {
        let wasm = wat::parse_str(text).expect("valid text");
        assert_eq!(in_steps(&wasm).expect("it can be read") != wasm, is_changed, "{text}");
    }
}

#[test]
fn components_are_stepped_wherever_their_modules_are() {
    let inner = "(core module $m (memory 1) (func (param i32) (memory.fill (i32.const 0) \
        (i32.const 1) (local.get 0))))";
    let wasm =
        wat::parse_str(format!("(component {inner} (component {inner} (component {inner})))"))
            .expect("valid text");
    let stepped = in_steps(&wasm).expect("it can be read");
    let fill = |wasm: &[u8]| wasm.windows(3).filter(|bytes| *bytes == [0xfc, 0x0b, 0]).count();
    assert_eq!(
        (fill(&wasm), fill(&stepped)),
        (3, 6),
        "each has one within a loop and one after it instead"
    );
    wasmtime::component::Component::new(&Engine::default(), stepped).expect("a valid component");
    let deep = (0..=DEPTH).fold(String::new(), |inner, _| format!("(component {inner})"));
    let error = in_steps(&wat::parse_str(deep).expect("valid text")).expect_err("it is too deep");
    assert_eq!(error.to_string(), "components are nested more than 32 deep");
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let wasm = moves("i32", "");
    for length in 1..wasm.len() {
        // Some cuts leave whole sections, which only the compiler finds wanting.
        let _ = in_steps(&wasm[..length]);
    }
    assert!(in_steps(&wasm[..wasm.len() - 1]).is_err());
    assert!(in_steps(b"").is_err());
}
