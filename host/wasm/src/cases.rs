//! Cases: exchanges as a policy might see them, and what a component should say of each.
//!
//! They are written by hand as TOML, a `[[case]]` each, for `fusebox component test` and for the
//! admission of new versions; or they are captured from traffic, as JSON, one to a line. Both have
//! the same fields. A file of lines may be a piece of the log: lines that hold no case are passed
//! over.

pub(crate) mod asked;
pub(crate) mod capture;
pub(crate) mod case;
pub(crate) mod compare;
pub(crate) mod run;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde::Deserialize;

use self::asked::{AskedCase, asks_for_delay, has_no_outcome};
use self::case::{ComponentCase, Expect, kind};
use crate::artifact::read_regular;
use crate::config::ComponentConfig;

/// The longest file of cases, in bytes.
const LONGEST: u64 = 16 << 20;

/// A file of cases.
#[derive(Clone, Debug)]
pub struct Cases {
    file: PathBuf,
    component: toml::Table,
    cases: Vec<ComponentCase>,
}

/// What the file says, before each case has its line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CasesFile {
    #[serde(default)]
    component: toml::Table,
    #[serde(default)]
    case: Vec<toml::Spanned<ComponentCase>>,
}

impl Cases {
    /// Reads `file`: TOML if its name ends so, else JSON lines, of which those of other components
    /// than `component`, if that is named, are passed over.
    ///
    /// # Errors
    /// It can't be read, or is wrong; with the line.
    pub fn read(file: &Path, component: Option<&str>) -> Result<Self> {
        let place = file.display();
        let text = read_regular(file, LONGEST).and_then(|bytes| Ok(String::from_utf8(bytes)?));
        let text = text.with_context(|| place.to_string())?;
        let is_toml =
            file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
        let cases =
            if is_toml { Self::from_toml(&text) } else { Self::from_lines(&text, component) };
        cases
            .map(|cases| Self { file: file.to_owned(), ..cases })
            .map_err(|(line, error)| anyhow!("{place}:{line}: {error:#}"))
    }

    fn from_toml(text: &str) -> Result<Self, (usize, anyhow::Error)> {
        let ends: Vec<_> = text.match_indices('\n').map(|(end, _)| end).collect();
        let line_of = |offset: usize| 1 + ends.partition_point(|end| *end < offset);
        let document: CasesFile = toml::from_str(text).map_err(|error| {
            (
                line_of(error.span().map_or(0, |span| span.start)),
                anyhow!("{}", error.message().replace('\n', "; ")),
            )
        })?;
        let cases = document.case.into_iter().map(|case| {
            let line = line_of(case.span().start);
            checked(ComponentCase { line, ..case.into_inner() }).map_err(|error| (line, error))
        });
        let cases: Vec<_> = cases.collect::<Result<_, _>>()?;
        if cases.is_empty() {
            return Err((1, anyhow!("has no `[[case]]`")));
        }
        Ok(Self { file: PathBuf::new(), component: document.component, cases })
    }

    fn from_lines(text: &str, component: Option<&str>) -> Result<Self, (usize, anyhow::Error)> {
        let (mut cases, mut is_log, mut foreign) = (Vec::new(), false, None);
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let number = index + 1;
            if line.trim().is_empty() {
                continue;
            }
            let value: serde_json::Value =
                match serde_json::from_str(line).context("expected a case as JSON on one line") {
                    Ok(value) => value,
                    Err(error) => {
                        foreign = foreign.or(Some((number, error)));
                        continue;
                    }
                };
            let is_of_log = value.get("msg").is_some();
            is_log |= is_of_log;
            let is_of_other =
                component.is_some_and(|name| value.get("component").is_some_and(|of| of != name));
            let case = match value.get("case") {
                _ if is_of_log && is_of_other => continue,
                None if is_of_log => continue,
                Some(case) => ComponentCase::deserialize(case),
                None => ComponentCase::deserialize(value),
            };
            let case = case
                .map_err(anyhow::Error::from)
                .and_then(|case| checked(ComponentCase { line: number, ..case }));
            cases.push(case.map_err(|error| (number, error))?);
        }
        match foreign {
            // What others wrote between the lines of a log, or half a line at its end, is none of
            // ours.
            Some(foreign) if !is_log => Err(foreign),
            _ if cases.is_empty() => Err((1, anyhow!("has no case in it"))),
            // What the component could see when they were captured is all that they have.
            _ => Ok(Self {
                file: PathBuf::new(),
                component: toml::Table::from_iter([("peek_body".into(), "1MiB".into())]),
                cases,
            }),
        }
    }

    pub(crate) fn all(&self) -> &[ComponentCase] {
        &self.cases
    }

    /// The configuration that the cases are for: what the file says of the component, with
    /// `component` as its file.
    ///
    /// # Errors
    /// It says something that no component can be configured with.
    pub fn config(&self, component: &Path) -> Result<ComponentConfig> {
        let place = || self.file.display().to_string();
        let mut table = self.component.clone();
        if let Some(key) = ["file", "cases"].into_iter().find(|key| table.contains_key(*key)) {
            bail!("{}: component: `{key}` is not for a file of cases", place());
        }
        let file = component.to_str().context("a path that is no text")?;
        table.insert("file".into(), file.into());
        let config: ComponentConfig = table.try_into().map_err(|error: toml::de::Error| {
            anyhow!("{}: component: {}", place(), error.message())
        })?;
        let problems: Vec<_> = config
            .validate()
            .into_iter()
            .map(|problem| format!("component.{}: {}", problem.path, problem.message))
            .collect();
        if problems.is_empty() { Ok(config) } else { bail!("{}: {}", place(), problems.join("; ")) }
    }
}

/// What no type says.
fn checked(case: ComponentCase) -> Result<ComponentCase> {
    check(&case)?;
    // That it can be asked at all.
    AskedCase::of(&case).with_context(|| format!("`{}`", case.name))?;
    Ok(case)
}

fn check(case: &ComponentCase) -> Result<()> {
    let ComponentCase { name, response, failure, failure_detail, history, attempt, expect, .. } =
        case;
    ensure!(!name.trim().is_empty(), "a case needs a `name`");
    ensure!(!name.contains(char::is_control), "the name {name:?} has a control character");
    let place = |what: &str| format!("`{name}`: {what}");
    if has_no_outcome(case) {
        ensure!(
            response.is_none() && failure.is_none() && history.is_empty() && attempt.is_none(),
            place("whose call it is is asked first: there is no outcome and no attempt yet")
        );
    } else {
        ensure!(
            response.is_some() != failure.is_some(),
            place("expected either a `response` or a `failure`")
        );
    }
    let is_delay = asks_for_delay(case);
    for (key, is_given) in [("own", case.own.is_some()), ("count", case.count.is_some())] {
        ensure!(!is_given || is_delay, place(&format!("`{key}` is of what asks for a delay")));
    }
    ensure!(
        failure.is_some() || failure_detail.is_none(),
        place("`failure_detail` needs a `failure`")
    );
    if let (Some(failure), Some(detail)) = (failure, failure_detail) {
        ensure!(
            kind(*failure, Some(detail)).is_some(),
            place(&format!("`{}` has no detail `{detail}`", failure.name()))
        );
    }
    if let Some(response) = response {
        ensure!(
            (100..=999).contains(&response.status),
            place("`response.status` must be from 100 to 999")
        );
        ensure!(
            response.body.is_none() || response.body_bytes.is_none(),
            place("either `body` or `body_bytes`")
        );
        let narrow = |text: &String| text.chars().all(|character| u8::try_from(character).is_ok());
        ensure!(
            response.body_bytes.as_ref().is_none_or(narrow),
            place("`body_bytes` has a character above U+00FF")
        );
    }
    let before = u32::try_from(history.len()).unwrap_or(u32::MAX);
    ensure!(
        attempt.is_none_or(|attempt| attempt >= before),
        place("`attempt` is less than the attempts of `history`")
    );
    for past in history {
        ensure!(
            past.status.is_none_or(|status| (100..=999).contains(&status)),
            place("`history`: status within 100 to 999")
        );
        ensure!(
            past.status.is_some() != past.failure.is_some(),
            place("`history`: either a `status` or a `failure`")
        );
    }
    let Expect { handled, response, declined, delay, key, fault, detail } = expect;
    let said = [
        handled.is_some(),
        response.is_some(),
        declined.is_some(),
        delay.is_some(),
        key.is_some(),
        fault.is_some(),
    ];
    let count = said.into_iter().filter(|said| *said).count();
    ensure!(
        count == 1,
        place(
            "`expect` needs one of `handled`, `response`, `declined`, `delay`, `key` and `fault`"
        )
    );
    ensure!(
        *declined != Some(false),
        place("`declined = false`: say which `response` is expected")
    );
    ensure!(detail.is_none() || fault.is_some(), place("`detail` is of a `fault`"));
    Ok(())
}

#[cfg(test)]
mod tests;
