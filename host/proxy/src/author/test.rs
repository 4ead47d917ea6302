//! `fusebox component test`: runs cases and says what came of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use fusebox_wasm::Compiler;
use fusebox_wasm::author::CaseReport;

use super::subject::Subject;

/// How often `--watch` looks.
const LOOK: Duration = Duration::from_millis(200);

/// Asks the component what its cases ask. Returns whether it answers all of them as expected; `say`
/// hears how.
///
/// # Errors
/// The component or the cases are no good.
pub(super) fn test(
    subject: &Subject,
    compiler: Compiler,
    mut say: impl FnMut(&str),
) -> Result<bool> {
    let reports = subject.trial(compiler)?.test()?;
    reports.iter().for_each(|report| told(report, &subject.cases, &mut say));
    let failed = reports.iter().filter(|report| !report.passed()).count();
    let all = reports.len();
    say(&match (failed, all) {
        (0, 1) => "1 case, as expected".to_owned(),
        (0, all) => format!("{all} cases, all as expected"),
        (failed, all) => format!("{failed} of {all} cases failed"),
    });
    Ok(failed == 0)
}

fn told(report: &CaseReport, file: &Path, say: &mut impl FnMut(&str)) {
    if report.passed() {
        return say(&format!("ok    {}", report.name));
    }
    say(&format!("FAIL  {} ({}:{})", report.name, file.display(), report.line));
    for difference in &report.differences {
        match difference.lines() {
            Some(lines) => {
                say(&format!("      {} (- expected, + found):", difference.what));
                lines.lines().for_each(|line| say(&format!("        {line}")));
            }
            None => say(&format!("      {difference}")),
        }
    }
    report.printed.iter().for_each(|line| say(&format!("      printed: {line}")));
}

/// [`test()`] again and again, whenever one of the files has changed, until the process is ended.
pub(super) fn watch(
    find: impl Fn() -> Result<Subject>,
    compiler: &Compiler,
    mut say: impl FnMut(&str),
) -> ! {
    let mut seen = None;
    loop {
        let found = find();
        let now =
            found.as_ref().map(|subject| [&subject.component, &subject.cases].map(changed)).ok();
        if seen != Some(now) {
            seen = Some(now);
            let tested = found.and_then(|subject| test(&subject, compiler.clone(), &mut say));
            if let Err(error) = tested {
                say(&format!("{error:#}"));
            }
            say("");
        }
        thread::park_timeout(LOOK);
    }
}

/// When, and what length it has now.
fn changed(file: &PathBuf) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
