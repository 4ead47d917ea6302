//! What is known of the content of a seat's file.

use std::sync::Arc;

use tokio::time::Instant;

/// What is known of it, as digests.
#[derive(Debug, Default)]
pub(super) struct FileContent {
    /// When it was last read or replaced.
    last: Option<Arc<str>>,
    untried: Option<Untried>,
    /// It can't be read.
    is_away: bool,
}

/// Content of the file that has yet to be tried.
#[derive(Debug)]
struct Untried {
    /// `None`: it could not even be read.
    digest: Option<Arc<str>>,
    /// Not before.
    from: Instant,
}

/// What it means that the file was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// It had other content before.
    pub(super) is_news: bool,
    /// It has this content still, and that has yet to be tried.
    pub(super) is_untried: bool,
    /// It could not be read before.
    pub(super) is_back: bool,
}

impl FileContent {
    /// The file was read.
    pub(super) fn found(&mut self, digest: &Arc<str>) -> Found {
        let is_news = self.last.replace(digest.clone()).as_ref() != Some(digest);
        let untried = self.untried.take().and_then(|untried| untried.digest);
        let is_back = std::mem::take(&mut self.is_away);
        Found { is_news, is_untried: untried.as_ref() == Some(digest), is_back }
    }

    /// The file can't be read now, for a reason of its own. What it had is news when it is back, if
    /// that has yet to be tried.
    pub(super) fn is_lost(&mut self) {
        self.is_away = true;
        if self.untried.take().is_some() {
            self.last = None;
        }
    }

    /// The file can't be read, and this is when to look again.
    pub(super) fn is_to_be_read(&mut self, from: Instant) {
        let digest = self.untried.take().and_then(|untried| untried.digest);
        self.untried = Some(Untried { digest, from });
    }

    /// What was read has yet to be tried, and not before this time.
    pub(super) fn is_to_be_tried(&mut self, digest: &Arc<str>, from: Instant) {
        self.untried = Some(Untried { digest: Some(digest.clone()), from });
    }

    /// We have replaced it by this, which is in use.
    pub(super) fn is_replaced(&mut self, digest: &Arc<str>) {
        *self = Self { last: Some(digest.clone()), untried: None, is_away: false };
    }

    /// We have put this back.
    pub(super) fn is_put_back(&mut self, digest: Arc<str>) {
        self.last = Some(digest);
    }

    /// Whether there is something to try though the file has not changed.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.untried.as_ref().is_some_and(|untried| untried.from <= now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const OLD: Found = Found { is_news: false, is_untried: false, is_back: false };

    #[test]
    fn content_is_tried_once_and_again_only_where_it_could_not_be() {
        let (mut content, now) = (FileContent::default(), Instant::now());
        let (one, two): (Arc<str>, Arc<str>) = ("1".into(), "2".into());
        assert_eq!(content.found(&one), Found { is_news: true, ..OLD });
        assert_eq!(content.found(&one), OLD);
        assert!(!content.is_due(now));

        let later = now + Duration::from_secs(1);
        content.is_to_be_tried(&one, later);
        assert!(!content.is_due(now) && content.is_due(later));
        assert_eq!(content.found(&one), Found { is_untried: true, ..OLD });
        assert!(!content.is_due(later), "it is being tried");

        content.is_to_be_tried(&one, now);
        assert_eq!(content.found(&two), Found { is_news: true, ..OLD }, "the first is gone");
        assert!(!content.is_due(later));
    }

    #[test]
    fn a_file_that_is_gone_is_not_looked_for_and_what_it_had_is_news_when_it_is_back() {
        let (mut content, now) = (FileContent::default(), Instant::now());
        let one: Arc<str> = "1".into();
        content.found(&one);
        content.is_lost();
        assert_eq!(content.found(&one), Found { is_back: true, ..OLD }, "it was tried");
        assert_eq!(content.found(&one), OLD);
        content.is_to_be_tried(&one, now);
        content.is_lost();
        assert!(!content.is_due(now));
        assert_eq!(content.found(&one), Found { is_news: true, is_back: true, ..OLD });
    }

    #[test]
    fn a_file_that_can_t_be_read_for_a_while_is_looked_at_again() {
        let (mut content, now) = (FileContent::default(), Instant::now());
        let one: Arc<str> = "1".into();
        content.is_to_be_read(now);
        assert!(content.is_due(now));
        assert_eq!(content.found(&one), Found { is_news: true, ..OLD });
        content.is_to_be_tried(&one, now);
        content.is_to_be_read(now);
        assert_eq!(
            content.found(&one),
            Found { is_untried: true, ..OLD },
            "that was not forgotten"
        );
    }
}
