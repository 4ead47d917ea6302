//! A core module in which the instructions that move memory have become calls.

use anyhow::Result;
use wasm_encoder::{BlockType, Encode as _, Function, Instruction, ValType};
use wasmparser::{
    BinaryReader, CodeSectionReader, FunctionSectionReader, ImportSectionReader,
    MemorySectionReader, Operator, TypeRef, TypeSectionReader,
};

use super::function::{SteppedFunction, greater};
use super::sections::{
    CODE, CUSTOM, FUNCTIONS, IMPORTS, MEMORIES, Section, TYPES, sections, with_sections,
};

/// An instruction that moves memory; each that occurs gets a function of its own.
#[derive(Clone, Copy, PartialEq)]
enum Move {
    Fill { memory: u32 },
    Copy { to: u32, from: u32 },
    Init { memory: u32, data: u32 },
}

impl Move {
    fn of(operator: &Operator<'_>) -> Option<Self> {
        match *operator {
            Operator::MemoryFill { mem } => Some(Self::Fill { memory: mem }),
            Operator::MemoryCopy { dst_mem, src_mem } => {
                Some(Self::Copy { to: dst_mem, from: src_mem })
            }
            Operator::MemoryInit { data_index, mem } => {
                Some(Self::Init { memory: mem, data: data_index })
            }
            _ => None,
        }
    }
}

/// What a module has before anything is added.
#[derive(Default)]
struct Module {
    types: u32,
    functions: u32,
    /// The types of addresses.
    memories: Vec<ValType>,
    moves: Vec<Move>,
}

pub(super) fn module(wasm: &[u8], step: u32) -> Result<Vec<u8>> {
    let sections = sections(wasm)?;
    let mut module = Module::read(&sections)?;
    let mut code = Vec::new();
    for section in sections.iter().filter(|section| section.id == CODE) {
        code = bodies(section.content, step, &mut module)?;
    }
    if module.moves.is_empty() {
        return Ok(wasm.to_vec());
    }
    with_sections(wasm, &sections, |section| {
        let added = module.moves.len();
        Ok(match section.id {
            TYPES => {
                extended(section.content, added, |index, types| module.encode_type(index, types))?
                    .into()
            }
            FUNCTIONS => extended(section.content, added, |index, types| {
                (module.types + to_u32(index)).encode(types)
            })?
            .into(),
            CODE => module.code(&code, step).into(),
            // What is said there of instructions is said of their places, which have moved.
            CUSTOM
                if section
                    .content
                    .get(1..)
                    .is_some_and(|name| name.starts_with(b"metadata.code.")) =>
            {
                b"\x07dropped".into()
            }
            _ => section.content.into(),
        })
    })
}

fn to_u32(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// A section with `added` more entries at its end.
fn extended(content: &[u8], added: usize, encode: impl Fn(usize, &mut Vec<u8>)) -> Result<Vec<u8>> {
    let mut reader = BinaryReader::new(content, 0);
    let count = reader.read_var_u32()?;
    let mut section = Vec::with_capacity(content.len() + 8 * added);
    count.saturating_add(to_u32(added)).encode(&mut section);
    section.extend_from_slice(&content[reader.current_position()..]);
    (0..added).for_each(|index| encode(index, &mut section));
    Ok(section)
}

/// The bodies of the functions, each with its length, in which moves have become calls.
fn bodies(content: &[u8], step: u32, module: &mut Module) -> Result<Vec<Vec<u8>>> {
    let mut bodies = Vec::new();
    for body in CodeSectionReader::new(BinaryReader::new(content, 0))? {
        let body = body?;
        let range = body.range();
        let (mut stepped, mut done) = (Vec::with_capacity(range.len()), range.start);
        let mut operators = body.get_operators_reader()?;
        let mut is_short = false;
        while !operators.eof() {
            let (operator, start) = operators.read_with_offset()?;
            if let Some(it) = Move::of(&operator)
                && !is_short
            {
                stepped.extend_from_slice(&content[done..start]);
                Instruction::Call(module.function_of(it)).encode(&mut stepped);
                done = operators.original_position();
            }
            // The length is what was pushed last.
            is_short = match operator {
                Operator::I32Const { value } => value.cast_unsigned() <= step,
                Operator::I64Const { value } => value.cast_unsigned() <= step.into(),
                _ => false,
            };
        }
        stepped.extend_from_slice(&content[done..range.end]);
        bodies.push(stepped);
    }
    Ok(bodies)
}

impl Module {
    fn read(sections: &[Section<'_>]) -> Result<Self> {
        let mut module = Self::default();
        for Section { id, content } in sections {
            let reader = BinaryReader::new(content, 0);
            match *id {
                TYPES => {
                    for group in TypeSectionReader::new(reader)? {
                        module.types = module.types.saturating_add(to_u32(group?.types().len()));
                    }
                }
                IMPORTS => {
                    for import in ImportSectionReader::new(reader)?.into_imports() {
                        match import?.ty {
                            TypeRef::Func(_) | TypeRef::FuncExact(_) => module.functions += 1,
                            TypeRef::Memory(memory) => {
                                module.memories.push(address(memory.memory64))
                            }
                            TypeRef::Table(_) | TypeRef::Global(_) | TypeRef::Tag(_) => {}
                        }
                    }
                }
                FUNCTIONS => {
                    let count = FunctionSectionReader::new(reader)?.count();
                    module.functions = module.functions.saturating_add(count);
                }
                MEMORIES => {
                    for memory in MemorySectionReader::new(reader)? {
                        module.memories.push(address(memory?.memory64));
                    }
                }
                _ => {}
            }
        }
        Ok(module)
    }

    /// The index of the function that does this in steps.
    fn function_of(&mut self, it: Move) -> u32 {
        let index = self.moves.iter().position(|other| *other == it).unwrap_or_else(|| {
            self.moves.push(it);
            self.moves.len() - 1
        });
        self.functions.saturating_add(to_u32(index))
    }

    /// An index that is none is for the compiler to refuse.
    fn memory(&self, index: u32) -> ValType {
        self.memories.get(index as usize).copied().unwrap_or(ValType::I32)
    }

    /// Where to, what or where from, how much.
    fn parameters(&self, it: Move) -> [ValType; 3] {
        match it {
            Move::Fill { memory } => [self.memory(memory), ValType::I32, self.memory(memory)],
            Move::Init { memory, .. } => [self.memory(memory), ValType::I32, ValType::I32],
            Move::Copy { to, from } => {
                let (to, from) = (self.memory(to), self.memory(from));
                [
                    to,
                    from,
                    if [to, from].contains(&ValType::I32) { ValType::I32 } else { ValType::I64 },
                ]
            }
        }
    }

    fn encode_type(&self, index: usize, types: &mut Vec<u8>) {
        const FUNCTION: u8 = 0x60;
        types.push(FUNCTION);
        let parameters = self.parameters(self.moves[index]);
        parameters.len().encode(types);
        parameters.iter().for_each(|parameter| parameter.encode(types));
        0_usize.encode(types);
    }

    /// The content of the code section.
    fn code(&self, bodies: &[Vec<u8>], step: u32) -> Vec<u8> {
        let mut code = Vec::new();
        (bodies.len() + self.moves.len()).encode(&mut code);
        bodies.iter().for_each(|body| body.as_slice().encode(&mut code));
        self.moves.iter().for_each(|it| self.body(*it, step).encode(&mut code));
        code
    }

    fn body(&self, it: Move, step: u32) -> Function {
        let [to_type, from_type, length_type] = self.parameters(it);
        let (to, from, length) = ((0, to_type), (1, from_type), (2, length_type));
        let mut body = SteppedFunction::new(step);
        let instruction = match it {
            Move::Fill { memory } => Instruction::MemoryFill(memory),
            Move::Init { memory, data } => {
                Instruction::MemoryInit { mem: memory, data_index: data }
            }
            Move::Copy { to, from } => Instruction::MemoryCopy { dst_mem: to, src_mem: from },
        };
        match it {
            // Upwards; what is filled in stays the same from step to step.
            Move::Fill { .. } => body.upwards(&instruction, to, from, length, &[to]),
            Move::Init { .. } => body.upwards(&instruction, to, from, length, &[to, from]),
            // What overlaps must be read before it is overwritten. (Two memories, and addresses of
            // two types, do not.)
            Move::Copy { .. } if to_type != from_type => {
                body.upwards(&instruction, to, from, length, &[to, from])
            }
            Move::Copy { .. } => {
                body.get(to)
                    .get(from)
                    .push(greater(to_type))
                    .push(Instruction::If(BlockType::Empty));
                body.downwards(&instruction, to, from, length);
                body.push(Instruction::Else);
                body.upwards(&instruction, to, from, length, &[to, from]);
                body.push(Instruction::End);
            }
        }
        // What is left is at most a step.
        body.get(to).get(from).get(length).push(instruction).push(Instruction::End);
        body.function
    }
}

fn address(is_64_bit: bool) -> ValType {
    if is_64_bit { ValType::I64 } else { ValType::I32 }
}
