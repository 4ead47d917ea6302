//! What has been read of a body and not yet sent.

use std::collections::VecDeque;

use bytes::Bytes;

/// Pieces in order. The usual body is one, which takes no memory but its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Ahead {
    /// Empty if there is none.
    first: Bytes,
    more: Option<Box<More>>,
}

#[derive(Clone, Debug, Default)]
struct More {
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl Ahead {
    pub(super) fn push(&mut self, piece: Bytes) {
        if self.is_empty() {
            self.first = piece;
        } else {
            let more = self.more.get_or_insert_default();
            more.bytes += piece.len();
            more.pieces.push_back(piece);
        }
    }

    pub(super) fn push_front(&mut self, piece: Bytes) {
        let first = std::mem::replace(&mut self.first, piece);
        if !first.is_empty() {
            let more = self.more.get_or_insert_default();
            more.bytes += first.len();
            more.pieces.push_front(first);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        if !self.first.is_empty() {
            return Some(std::mem::take(&mut self.first));
        }
        let more = self.more.as_mut()?;
        let piece = more.pieces.pop_front()?;
        more.bytes -= piece.len();
        Some(piece)
    }

    /// Bytes in all of them.
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.more.as_ref().map_or(0, |more| more.bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.more.as_ref().is_none_or(|more| more.pieces.is_empty())
    }

    /// The one that was pushed last, as far as it has not been taken out.
    pub(super) fn last(&self) -> Option<&Bytes> {
        self.pieces().last()
    }

    pub(super) fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first).chain(self.more.iter().flat_map(|more| &more.pieces))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_out_as_they_went_in() {
        let mut ahead = Ahead::default();
        let pop = |ahead: &mut Ahead| ahead.pop().map(|piece| piece.to_vec());
        assert!(ahead.is_empty() && ahead.pop().is_none());
        for piece in ["a", "", "bc"] {
            ahead.push(Bytes::from_static(piece.as_bytes()));
        }
        assert_eq!((ahead.len(), ahead.pieces().map(|piece| piece.len()).sum::<usize>()), (3, 3));
        assert_eq!(pop(&mut ahead).as_deref(), Some(&b"a"[..]));
        ahead.push(Bytes::from_static(b"d"));
        let rest: Vec<u8> = std::iter::from_fn(|| pop(&mut ahead)).flatten().collect();
        assert_eq!((&rest[..], ahead.len(), ahead.is_empty()), (&b"bcd"[..], 0, true));
    }
}
