//! What a file says of modules: those that it declares, what it imports, the types it defines.

use crate::tokens::{Token, tokens};

/// A module as its file has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ModuleSource {
    /// Below the file's own module: empty for that one.
    pub(crate) path: Vec<String>,
    /// `mod name;`
    pub(crate) children: Vec<Child>,
    pub(crate) imports: Vec<Import>,
    /// Inline paths of two segments or more.
    pub(crate) paths: Vec<Vec<String>>,
    /// Types that it declares: structs, enums, unions, traits and aliases.
    pub(crate) types: Vec<String>,
    /// Macros that it exports, which are then found at the crate's root.
    pub(crate) macros: Vec<String>,
}

/// A module in a file of its own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Child {
    pub(crate) name: String,
    /// `#[path = "…"]`
    pub(crate) file: Option<String>,
}

/// One name of a `use`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    /// What it is called here; none for `*` and `_`.
    pub(crate) name: Option<String>,
}

/// All modules of a file, its own first.
pub(crate) fn modules(code: &str) -> Vec<ModuleSource> {
    let tokens = tokens(code);
    let modules = vec![ModuleSource::default()];
    let (blocks, attributes) = (Vec::new(), Attributes::default());
    let mut reader = SourceReader { tokens: &tokens, at: 0, modules, blocks, attributes };
    while let Some(token) = reader.peek(0) {
        reader.read(token);
    }
    reader.modules
}

/// What is said before an item.
#[derive(Clone, Debug, Default)]
struct Attributes {
    is_test: bool,
    is_exported: bool,
    file: Option<String>,
}

struct SourceReader<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    modules: Vec<ModuleSource>,
    /// What each open brace belongs to: a module, or something in one.
    blocks: Vec<Option<usize>>,
    /// Those of the next item.
    attributes: Attributes,
}

impl<'a> SourceReader<'a> {
    fn peek(&self, ahead: usize) -> Option<Token<'a>> {
        self.tokens.get(self.at + ahead).copied()
    }

    /// The module that is being read.
    fn module(&mut self) -> &mut ModuleSource {
        let module = self.blocks.iter().rev().find_map(|block| *block).unwrap_or(0);
        &mut self.modules[module]
    }

    /// Reads what begins with this token, which is the next one.
    fn read(&mut self, token: Token<'a>) {
        let attributes = std::mem::take(&mut self.attributes);
        match token {
            Token::Sign('#') if self.peek(1) == Some(Token::Sign('[')) => {
                self.attributes = self.attribute(attributes);
                if self.attributes.is_test {
                    self.at = self.behind(self.at + 1);
                    self.skip_item();
                    self.attributes = Attributes::default();
                } else {
                    // Its paths are imports like others.
                    self.at += 2;
                }
            }
            Token::Word("mod") => self.read_mod(attributes),
            Token::Word("use") => {
                self.at += 1;
                let mut imports = Vec::new();
                self.tree(&[], &mut imports);
                self.module().imports.append(&mut imports);
            }
            Token::Word("macro_rules") => {
                if let (Some(Token::Word(name)), true) = (self.peek(2), attributes.is_exported) {
                    self.module().macros.push(name.to_owned());
                }
                self.at += 3;
            }
            Token::Word("struct" | "enum" | "union" | "trait" | "type") => {
                let is_item = self.blocks.last().is_none_or(Option::is_some);
                if let (Some(Token::Word(name)), true) = (self.peek(1), is_item) {
                    self.module().types.push(name.to_owned());
                }
                self.at += 1;
            }
            Token::Word(_) => {
                let visibility = [Token::Word("pub"), Token::Sign('('), Token::Word("in")];
                let is_visibility = self.tokens[..self.at].ends_with(&visibility);
                let path = self.path();
                if path.len() > 1 && !is_visibility {
                    self.module().paths.push(path);
                }
                self.attributes = attributes;
            }
            sign => {
                match sign {
                    Token::Sign('{') => self.blocks.push(None),
                    Token::Sign('}') => drop(self.blocks.pop()),
                    Token::Sign(';') => {}
                    // Still before the item: the rest of an attribute, a visibility.
                    _ => self.attributes = attributes,
                }
                self.at += 1;
            }
        }
    }

    /// `mod name;` or `mod name {`
    fn read_mod(&mut self, attributes: Attributes) {
        let Some(Token::Word(name)) = self.peek(1) else {
            self.at += 1;
            return;
        };
        let name = name.to_owned();
        if self.peek(2) == Some(Token::Sign('{')) {
            let path = [&self.module().path[..], &[name]].concat();
            self.blocks.push(Some(self.modules.len()));
            self.modules.push(ModuleSource { path, ..ModuleSource::default() });
            self.at += 3;
        } else {
            self.module().children.push(Child { name, file: attributes.file });
            self.at += 2;
        }
    }

    /// Reads an attribute, in addition to those before it, and stays in front of it.
    fn attribute(&self, before: Attributes) -> Attributes {
        let tokens = &self.tokens[self.at + 2..self.behind(self.at + 1)];
        let mut attributes = before;
        match tokens {
            [Token::Word("path"), Token::Sign('='), Token::Text(file), ..] => {
                attributes.file = Some((*file).to_owned());
            }
            [Token::Word("macro_export"), ..] => attributes.is_exported = true,
            [Token::Word("cfg"), rest @ ..] => {
                attributes.is_test |= rest.contains(&Token::Word("test"))
                    && !rest.contains(&Token::Word("not"))
                    && !rest.contains(&Token::Word("any"));
            }
            _ => {}
        }
        attributes
    }

    /// Where what the bracket at `open` opens has ended.
    fn behind(&self, open: usize) -> usize {
        let mut depth = 0;
        for (index, token) in self.tokens.iter().enumerate().skip(open) {
            match token {
                Token::Sign('(' | '[' | '{') => depth += 1,
                Token::Sign(')' | ']' | '}') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return index + 1;
            }
        }
        self.tokens.len()
    }

    /// Goes behind the next item, with its attributes.
    fn skip_item(&mut self) {
        let mut is_use = false;
        while let Some(token) = self.peek(0) {
            match token {
                Token::Sign(';') => {
                    self.at += 1;
                    return;
                }
                Token::Sign('{') if !is_use => {
                    self.at = self.behind(self.at);
                    return;
                }
                Token::Sign('(' | '[' | '{') => self.at = self.behind(self.at),
                // The end of what the item is in: a field or a statement has none of its own.
                Token::Sign('}' | ',') => return,
                token => {
                    is_use |= token == Token::Word("use");
                    self.at += 1;
                }
            }
        }
    }

    /// Reads a path as far as it has names.
    fn path(&mut self) -> Vec<String> {
        let is_inside = self.tokens[..self.at].last() == Some(&Token::PathSeparator);
        let mut path = Vec::new();
        while let Some(Token::Word(name)) = self.peek(0) {
            path.push(name.to_owned());
            self.at += 1;
            if !matches!(
                (self.peek(0), self.peek(1)),
                (Some(Token::PathSeparator), Some(Token::Word(_)))
            ) {
                break;
            }
            self.at += 1;
        }
        // Behind `<T as Trait>::` or a leading `::`, where no module of ours is.
        if is_inside { Vec::new() } else { path }
    }

    /// Reads a tree of imports below a path.
    fn tree(&mut self, below: &[String], imports: &mut Vec<Import>) {
        let mut path = below.to_vec();
        loop {
            match self.peek(0) {
                Some(Token::Word(name)) => {
                    self.at += 1;
                    if name != "self" || path.is_empty() {
                        path.push(name.to_owned());
                    }
                    if self.peek(0) == Some(Token::PathSeparator) {
                        self.at += 1;
                        continue;
                    }
                    let mut called = path.last().cloned();
                    if let (Some(Token::Word("as")), Some(Token::Word(alias))) =
                        (self.peek(0), self.peek(1))
                    {
                        self.at += 2;
                        called = Some(alias.to_owned()).filter(|alias| alias != "_");
                    }
                    imports.push(Import { path, name: called });
                }
                Some(Token::Sign('*')) => {
                    self.at += 1;
                    imports.push(Import { path, name: None });
                }
                Some(Token::Sign('{')) => {
                    self.at += 1;
                    while self.peek(0).is_some_and(|token| token != Token::Sign('}')) {
                        self.tree(&path, imports);
                        if self.peek(0) == Some(Token::Sign(',')) {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                }
                // A leading `::` names a crate; `use<'a>` captures lifetimes.
                _ => self.at += 1,
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(code: &str) -> ModuleSource {
        let mut modules = modules(code);
        assert_eq!(modules.len(), 1, "{modules:?}");
        modules.remove(0)
    }

    fn imports(code: &str) -> Vec<(String, Option<String>)> {
        only(code).imports.into_iter().map(|import| (import.path.join("::"), import.name)).collect()
    }

    #[test]
    fn a_tree_of_imports_is_taken_apart() {
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(
            imports("pub use crate::{a::{self, B as C}, d::*}; use super::E as _;"),
            [
                ("crate::a".to_owned(), name("a")),
                ("crate::a::B".to_owned(), name("C")),
                ("crate::d".to_owned(), None),
                ("super::E".to_owned(), None),
            ]
        );
    }

    #[test]
    fn paths_are_found_everywhere_but_in_strings_and_comments() {
        let module = only(
            "// crate::a::A\n\
             #[arg(default_value = b::B)]\n\
             pub(in crate::c) fn f(x: &dyn super::D) -> E { \"crate::f\"; g::h::<I>(self::j::K) }",
        );
        let paths: Vec<_> = module.paths.iter().map(|path| path.join("::")).collect();
        assert_eq!(paths, ["b::B", "super::D", "g::h", "self::j::K"]);
    }

    #[test]
    fn modules_are_those_that_are_not_for_tests() {
        let modules = modules(
            "mod a;\n#[path = \"other.rs\"] pub(crate) mod b;\n\
             #[cfg(test)] mod tests { use super::*; struct Local; }\n\
             #[cfg(test)] use crate::c::C;\n\
             #[cfg(test)] #[derive(Debug)] struct OfTests(u8);\n\
             mod inner { use super::D; mod deeper; }",
        );
        let child = |name: &str, file: Option<&str>| Child {
            name: name.into(),
            file: file.map(Into::into),
        };
        assert_eq!(modules[0].children, [child("a", None), child("b", Some("other.rs"))]);
        assert_eq!((modules[0].imports.len(), &modules[0].types[..]), (0, &[][..]));
        assert_eq!((modules.len(), &modules[1].path[..]), (2, &["inner".to_owned()][..]));
        assert_eq!(modules[1].imports[0].path, ["super", "D"]);
        assert_eq!(modules[1].children, [child("deeper", None)]);
    }

    #[test]
    fn types_are_those_of_modules() {
        let module = only(
            "pub struct A<T> { x: T }\nenum B { C(u8) }\ntrait D { type Associated; }\n\
             impl D for A<u8> { type Associated = u8; }\ntype E = u8;\nunion F { a: u8 }\n\
             fn f() { struct Local; }\n#[macro_export] macro_rules! say { () => { struct $x; } }",
        );
        assert_eq!(module.types, ["A", "B", "D", "E", "F"]);
        assert_eq!(module.macros, ["say"]);
    }
}
