//! A dump of callgrind: how many instructions each function executed, and how often it called
//! others.
//!
//! The format: <https://valgrind.org/docs/manual/cl-format.html>. Names are written out once and
//! then only numbered.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, ensure};

/// What a thread has executed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Profile {
    text: String,
    total: u64,
    functions: BTreeMap<String, Function>,
}

/// A function's share of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Function {
    own: u64,
    called: u64,
    /// The number of calls by the caller's name.
    callers: BTreeMap<String, u64>,
}

impl Function {
    /// Instructions of the function itself.
    pub(crate) fn own(&self) -> u64 {
        self.own
    }

    /// Instructions of the function and those it calls; too many if it calls itself.
    pub(crate) fn inclusive(&self) -> u64 {
        self.own + self.called
    }

    /// How often it was called.
    pub(crate) fn calls(&self) -> u64 {
        self.callers.values().sum()
    }
}

impl Profile {
    pub(crate) fn parse(text: String) -> Result<Self> {
        let mut functions = BTreeMap::<String, Function>::new();
        let mut names = HashMap::new();
        let (mut function, mut callee) = (String::new(), String::new());
        let mut is_call = false;
        let mut total = 0;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("fn=") {
                function = named(name, &mut names)?;
            } else if let Some(name) = line.strip_prefix("cfn=") {
                callee = named(name, &mut names)?;
            } else if let Some(calls) = line.strip_prefix("calls=") {
                let calls: u64 =
                    calls.split(' ').next().unwrap_or_default().parse().context("calls")?;
                let called = functions.entry(callee.clone()).or_default();
                *called.callers.entry(function.clone()).or_default() += calls;
                // The next line has what they cost.
                is_call = true;
            } else if let Some(cost) = line.strip_prefix("totals: ") {
                total = cost.parse().context("a total")?;
            } else if line
                .starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first))
            {
                // A position, and a cost unless that is 0.
                let cost = line.split(' ').nth(1).map_or(Ok(0), str::parse).context("a cost")?;
                let function = functions.entry(function.clone()).or_default();
                *(if is_call { &mut function.called } else { &mut function.own }) += cost;
                is_call = false;
            }
        }
        let sum: u64 = functions.values().map(|function| function.own).sum();
        ensure!(sum == total, "{sum} instructions add up, and it says {total}");
        Ok(Self { text, total, functions })
    }

    /// As callgrind wrote it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// All instructions.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The callers of these functions outside the allocator with their numbers of calls, the most
    /// frequent first.
    pub(crate) fn calls_of(&self, functions: &[&str]) -> Vec<(&str, u64)> {
        let mut calls = BTreeMap::new();
        let callers = functions
            .iter()
            .filter_map(|name| self.functions.get(*name))
            .flat_map(|function| &function.callers);
        for (caller, count) in callers.filter(|(caller, _)| !is_allocator(caller)) {
            *calls.entry(caller.as_str()).or_default() += count;
        }
        let mut calls: Vec<_> = calls.into_iter().collect();
        calls.sort_by_key(|(_, count)| Reverse(*count));
        calls
    }

    /// All functions, the most expensive first.
    pub(crate) fn functions(&self) -> Vec<(&str, &Function)> {
        let mut functions: Vec<_> =
            self.functions.iter().map(|(name, function)| (name.as_str(), function)).collect();
        functions.sort_by_key(|(_, function)| Reverse(function.own));
        functions
    }
}

fn is_allocator(function: &str) -> bool {
    function.starts_with("mi_") || function.starts_with("_mi_")
}

/// A name, written `(7) name` the first time and `(7)` later.
fn named(text: &str, names: &mut HashMap<String, String>) -> Result<String> {
    let (number, name) = text.split_once(')').with_context(|| format!("no name: {text}"))?;
    if !name.is_empty() {
        names.insert(number.to_owned(), name.trim_start().to_owned());
    }
    names.get(number).cloned().with_context(|| format!("a name that was never written out: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "\
version: 1
positions: line
events: Ir

ob=(1) /program
fl=(1) a.rs
fn=(1) serve
16 40
fi=(2) b.rs
+3 2
fe=(1)
cfn=(2) mi_malloc_aligned
calls=3 0
* 33
cfn=(3) parse
calls=1 50
-2 107

fn=(2)
0 21
cfn=(4) _mi_page_malloc
calls=1 0
0 12

fn=(4)
0 9
cfn=(5) mi_malloc
calls=1 0
0 3

fn=(5)
0 3

fn=(3)
50 100
+1
cfn=(2)
calls=1 0
* 7

totals: 175
";

    #[test]
    fn costs_are_of_the_function_that_executes_and_calls_of_the_one_that_is_called() {
        let profile = Profile::parse(DUMP.to_owned()).expect("a dump");
        let functions: Vec<_> = profile
            .functions()
            .into_iter()
            .map(|(name, of)| (name, of.own(), of.calls()))
            .collect();
        let expected = [
            ("parse", 100, 1),
            ("serve", 42, 0),
            ("mi_malloc_aligned", 21, 4),
            ("_mi_page_malloc", 9, 1),
            ("mi_malloc", 3, 1),
        ];
        assert_eq!(functions, expected);
        assert_eq!(profile.functions()[1].1.inclusive(), 182);
        assert_eq!(profile.total(), 175);
    }

    #[test]
    fn what_the_allocator_calls_within_is_no_allocation() {
        let profile = Profile::parse(DUMP.to_owned()).expect("a dump");
        assert_eq!(
            profile.calls_of(&["mi_malloc", "mi_malloc_aligned"]),
            [("serve", 3), ("parse", 1)]
        );
    }

    #[test]
    fn a_dump_that_does_not_add_up_is_no_dump() {
        assert!(Profile::parse(DUMP.replace("totals: 175", "totals: 176")).is_err());
        assert!(Profile::parse("fn=(1)\n".to_owned()).is_err());
    }
}
