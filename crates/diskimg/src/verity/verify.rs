//! Checks data against a tree, as the kernel does when it reads a block.

use super::hash::Hasher;
use super::{BLOCK, DIGEST, PER_BLOCK, Parameters, RootHash};
use crate::container::BlockSource;
use crate::field::{array, index};
use crate::{Error, Result};

/// Checks every block of data, and every block of the tree on the way to it. The tree is in the
/// source of the data when there is no other. One block of each level is held in memory.
///
/// # Errors
/// [`Error::Malformed`] with the first bad block, of data or of the tree, and where it is;
/// those of the sources.
pub fn verify(
    data: &mut dyn BlockSource,
    mut tree: Option<&mut (dyn BlockSource + '_)>,
    parameters: &Parameters,
    root: RootHash,
) -> Result<()> {
    let hasher = Hasher::new(&parameters.salt);
    let have = data.len() / BLOCK;
    if parameters.data_blocks > have {
        let reason =
            format!("{} blocks of data were expected, here are {have}", parameters.data_blocks);
        return Err(Error::malformed("verity", have * BLOCK, reason));
    }
    // The topmost level first; each with the block that is at hand and its number.
    let mut levels: Vec<Level> = parameters
        .levels()
        .into_iter()
        .rev()
        .map(|(first, _)| Level { first, at: None, block: vec![0; index(BLOCK)] })
        .collect();
    let mut block = vec![0; index(BLOCK)];
    for number in 0..parameters.data_blocks {
        let mut expected = root.0;
        let mut span = (0..levels.len()).fold(1_u64, |span, _| span.saturating_mul(PER_BLOCK));
        for (above, level) in levels.iter_mut().enumerate() {
            let wanted = number / span;
            if level.at != Some(wanted) {
                let at = level.first.saturating_add(wanted);
                let offset = at.saturating_mul(BLOCK);
                match &mut tree {
                    Some(tree) => tree.read_at(offset, &mut level.block)?,
                    None => data.read_at(offset, &mut level.block)?,
                }
                if hasher.block(&level.block) != expected {
                    let reason = format!(
                        "block {at}, level {above} of the tree from its root, does not have its hash"
                    );
                    return Err(Error::malformed("verity", offset, reason));
                }
                level.at = Some(wanted);
            }
            span /= PER_BLOCK;
            let slot = index(number / span.max(1) % PER_BLOCK) * DIGEST;
            expected = array(&level.block, slot).unwrap_or_default();
        }
        data.read_at(number * BLOCK, &mut block)?;
        if hasher.block(&block) != expected {
            let reason = format!("data block {number} does not have its hash");
            return Err(Error::malformed("verity", number * BLOCK, reason));
        }
    }
    Ok(())
}

struct Level {
    /// Its first block.
    first: u64,
    at: Option<u64>,
    block: Vec<u8>,
}
