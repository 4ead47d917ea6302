//! Differences of several lines, shown as a diff.

use similar::TextDiff;

use crate::cases::compare::Difference;

impl Difference {
    /// Line by line, if it has several.
    pub fn lines(&self) -> Option<String> {
        if !self.expected.contains('\n') && !self.found.contains('\n') {
            return None;
        }
        let diff = TextDiff::from_lines(&self.expected, &self.found);
        let mut text = String::new();
        for hunk in diff.unified_diff().context_radius(2).iter_hunks() {
            for change in hunk.iter_changes() {
                text.push_str(&format!(
                    "{} {}",
                    change.tag(),
                    change.value().trim_end_matches('\n')
                ));
                text.push('\n');
            }
        }
        Some(text)
    }
}
