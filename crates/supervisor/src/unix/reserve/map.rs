//! Which pieces of a reserve are taken: a bit for each.

/// Bytes of a piece. Nothing is closer aligned than this without asking.
pub(in crate::unix) const PIECE: usize = 32;
/// Pieces of a KiB, and bits of a word: each word is about one KiB.
const BITS: usize = u32::BITS as usize;

/// Taken pieces of so many KiB. First fit: what is short-lived comes and goes at the front, and the end
/// stays whole for what is long.
#[derive(Debug)]
pub(in crate::unix) struct Map<const KIB: usize> {
    words: [u32; KIB],
    taken: usize,
}

impl<const KIB: usize> Map<KIB> {
    /// Nothing is taken.
    pub(in crate::unix) const fn new() -> Self {
        Self { words: [0; KIB], taken: 0 }
    }

    /// Bytes that are taken.
    pub(in crate::unix) fn taken(&self) -> usize {
        self.taken.saturating_mul(PIECE)
    }

    /// Takes so many pieces in a row, the first at a multiple of `align`. Gives its place.
    pub(in crate::unix) fn take(&mut self, count: usize, align: usize) -> Option<usize> {
        let mut at = 0_usize;
        loop {
            at = at.checked_next_multiple_of(align)?;
            match self.last_taken(at, count)? {
                None => break,
                // no row that begins before that is free
                Some(taken) => at = self.after_taken(taken),
            }
        }
        self.set(at, count, true);
        Some(at)
    }

    /// Takes those between `old` and `new` pieces from `at` on, if they are free.
    pub(in crate::unix) fn extend(&mut self, at: usize, old: usize, new: usize) -> bool {
        let (from, more) = (at.saturating_add(old), new.saturating_sub(old));
        let free = matches!(self.last_taken(from, more), Some(None));
        if free {
            self.set(from, more, true);
        }
        free
    }

    /// Gives back pieces that were taken.
    pub(in crate::unix) fn give(&mut self, at: usize, count: usize) {
        self.set(at, count, false);
    }

    /// The last one of a row that is taken; `None` where there is no such row.
    fn last_taken(&self, at: usize, count: usize) -> Option<Option<usize>> {
        let end = at.checked_add(count)?;
        if end > KIB.saturating_mul(BITS) {
            return None;
        }
        let taken = |(place, mask): (usize, u32)| {
            let found = self.words.get(place).map_or(0, |word| word & mask);
            let bit = found.checked_ilog2()? as usize;
            Some(place.saturating_mul(BITS).saturating_add(bit))
        };
        Some(row(at, end).filter_map(taken).last())
    }

    /// The first one behind a taken one that may be free.
    fn after_taken(&self, taken: usize) -> usize {
        let (mut place, mut bit) = (taken / BITS, taken % BITS);
        loop {
            let word = self.words.get(place).copied().unwrap_or(0);
            let ones = (word >> bit.min(BITS.saturating_sub(1))).trailing_ones() as usize;
            let next = bit.saturating_add(ones);
            if next < BITS {
                return place.saturating_mul(BITS).saturating_add(next);
            }
            (place, bit) = (place.saturating_add(1), 0);
        }
    }

    fn set(&mut self, at: usize, count: usize, taken: bool) {
        for (place, mask) in row(at, at.saturating_add(count)) {
            if let Some(word) = self.words.get_mut(place) {
                *word = if taken { *word | mask } else { *word & !mask };
            }
        }
        self.taken = match taken {
            true => self.taken.saturating_add(count),
            false => self.taken.saturating_sub(count),
        };
    }
}

/// The words that a row lies in, and which bits of each.
fn row(mut at: usize, end: usize) -> impl Iterator<Item = (usize, u32)> {
    std::iter::from_fn(move || {
        let count = end.checked_sub(at).filter(|count| *count > 0)?;
        let (place, bit) = (at / BITS, at % BITS);
        let count = count.min(BITS.saturating_sub(bit));
        at = at.saturating_add(count);
        let ones = u32::MAX.checked_shr(u32::try_from(BITS.saturating_sub(count)).ok()?)?;
        Some((place, ones.checked_shl(u32::try_from(bit).ok()?)?))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Take(usize, usize),
        Give(usize),
        Extend(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (1_usize..90, 0_u32..8).prop_map(|(count, align)| Step::Take(count, 1 << align)),
            2 => any::<usize>().prop_map(Step::Give),
            1 => (any::<usize>(), 1_usize..40).prop_map(|(which, more)| Step::Extend(which, more)),
        ]
    }

    /// The same by trying each place.
    fn first_fit(taken: &[bool], count: usize, align: usize) -> Option<usize> {
        (0..taken.len())
            .step_by(align)
            .find(|at| taken.get(*at..at + count).is_some_and(|row| row.iter().all(|taken| !taken)))
    }

    proptest! {
        /// What is taken is the first row that is free, and a full map says so.
        #[test]
        fn it_takes_what_a_list_of_pieces_would(steps in prop::collection::vec(step(), 1..200)) {
            const KIB: usize = 16;
            let mut map = Map::<KIB>::new();
            let mut taken = vec![false; KIB * BITS];
            let mut rows: Vec<(usize, usize)> = Vec::new();
            for step in steps {
                match step {
                    Step::Take(count, align) => {
                        let expected = first_fit(&taken, count, align);
                        prop_assert_eq!(map.take(count, align), expected);
                        if let Some(at) = expected {
                            taken[at..at + count].fill(true);
                            rows.push((at, count));
                        }
                    }
                    Step::Give(which) if !rows.is_empty() => {
                        let (at, count) = rows.swap_remove(which % rows.len());
                        map.give(at, count);
                        taken[at..at + count].fill(false);
                    }
                    Step::Extend(which, more) if !rows.is_empty() => {
                        let which = which % rows.len();
                        let (at, count) = rows[which];
                        let behind = taken.get(at + count..at + count + more);
                        let free = behind.is_some_and(|row| row.iter().all(|taken| !taken));
                        prop_assert_eq!(map.extend(at, count, count + more), free);
                        if free {
                            taken[at + count..at + count + more].fill(true);
                            rows[which].1 += more;
                        }
                    }
                    _ => {}
                }
                let count = taken.iter().filter(|taken| **taken).count();
                prop_assert_eq!(map.taken(), count * PIECE);
            }
        }
    }

    #[test]
    fn all_of_it_can_be_taken_and_no_more() {
        let mut map = Map::<2>::new();
        assert_eq!(map.take(65, 1), None);
        assert_eq!(map.take(64, 1), Some(0));
        assert_eq!(map.take(1, 1), None);
        map.give(31, 2);
        assert_eq!((map.take(3, 1), map.take(2, 2), map.take(2, 1)), (None, None, Some(31)));
        assert_eq!(map.take(usize::MAX, 1), None);
        assert_eq!(map.taken(), 64 * PIECE);
    }
}
