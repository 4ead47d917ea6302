//! The functions that move memory in steps.

use wasm_encoder::{BlockType, Function, Instruction, ValType};

pub(super) fn greater(of: ValType) -> Instruction<'static> {
    if of == ValType::I64 { Instruction::I64GtU } else { Instruction::I32GtU }
}

/// A parameter: its index and type.
pub(super) type Parameter = (u32, ValType);

/// A function under construction.
pub(super) struct SteppedFunction {
    pub(super) function: Function,
    step: u32,
}

impl SteppedFunction {
    pub(super) fn new(step: u32) -> Self {
        Self { function: Function::new([]), step }
    }

    pub(super) fn push(&mut self, instruction: Instruction<'_>) -> &mut Self {
        self.function.instruction(&instruction);
        self
    }

    pub(super) fn get(&mut self, (index, _): Parameter) -> &mut Self {
        self.push(Instruction::LocalGet(index))
    }

    fn step(&mut self, of: ValType) -> &mut Self {
        let step = self.step;
        self.push(if of == ValType::I64 {
            Instruction::I64Const(step.into())
        } else {
            Instruction::I32Const(step.cast_signed())
        })
    }

    /// Adds a step to a parameter, or takes one from it.
    fn change(&mut self, parameter: Parameter, is_more: bool) -> &mut Self {
        let (index, of) = parameter;
        let operation = match (of == ValType::I64, is_more) {
            (true, true) => Instruction::I64Add,
            (true, false) => Instruction::I64Sub,
            (false, true) => Instruction::I32Add,
            (false, false) => Instruction::I32Sub,
        };
        self.get(parameter).step(of).push(operation).push(Instruction::LocalSet(index))
    }

    /// Does what `inside` does as long as more than a step is left.
    fn repeat(&mut self, length: Parameter, inside: impl FnOnce(&mut Self)) {
        let empty = BlockType::Empty;
        self.push(Instruction::Loop(empty)).get(length).step(length.1).push(greater(length.1));
        self.push(Instruction::If(empty));
        inside(self);
        self.push(Instruction::Br(1)).push(Instruction::End).push(Instruction::End);
    }

    pub(super) fn upwards(
        &mut self,
        instruction: &Instruction<'_>,
        to: Parameter,
        from: Parameter,
        length: Parameter,
        moving: &[Parameter],
    ) {
        self.repeat(length, |body| {
            body.get(to).get(from).step(length.1).push(instruction.clone()).change(length, false);
            moving.iter().for_each(|parameter| {
                body.change(*parameter, true);
            });
        });
    }

    pub(super) fn downwards(
        &mut self,
        instruction: &Instruction<'_>,
        to: Parameter,
        from: Parameter,
        length: Parameter,
    ) {
        let add = if to.1 == ValType::I64 { Instruction::I64Add } else { Instruction::I32Add };
        self.repeat(length, |body| {
            body.change(length, false);
            body.get(to)
                .get(length)
                .push(add.clone())
                .get(from)
                .get(length)
                .push(add)
                .step(length.1);
            body.push(instruction.clone());
        });
    }
}
