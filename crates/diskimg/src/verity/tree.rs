//! A content, its tree, and both in one.

use std::sync::{Arc, OnceLock};

use super::hash::{self, Hasher, Nowhere};
use super::{BLOCK, DIGEST, MAX_SALT, Options, Parameters, RootHash, superblock};
use crate::content::{Content, Sink};
use crate::error::Problems;
use crate::field::{array, index};
use crate::guid::Guid;
use crate::units::Lba;
use crate::{Error, Result};

/// A content of which Linux will check every block.
#[derive(Debug, Clone)]
pub struct Verity {
    plan: Arc<Plan>,
}

#[derive(Debug)]
struct Plan {
    content: Arc<dyn Content>,
    data_blocks: u64,
    salt: Vec<u8>,
    uuid: Guid,
    superblock: bool,
    threads: usize,
    /// Known once the content was read.
    tree: OnceLock<Tree>,
}

#[derive(Debug, PartialEq, Eq)]
struct Tree {
    root: RootHash,
    /// From the hashes of data up, each of whole blocks.
    levels: Vec<Vec<u8>>,
}

impl Tree {
    fn new(mut hashes: Vec<u8>, hasher: &Hasher) -> Self {
        let mut levels = Vec::new();
        while hashes.len() > DIGEST {
            hashes.resize(hashes.len().next_multiple_of(index(BLOCK)), 0);
            let above = hasher.blocks(&hashes);
            levels.push(std::mem::replace(&mut hashes, above));
        }
        Self { root: RootHash(array(&hashes, 0).unwrap_or_default()), levels }
    }
}

impl Verity {
    /// Plans a tree over a content; nothing is read.
    ///
    /// # Errors
    /// [`Error::Plan`] when the content is empty or the salt longer than 256 bytes.
    pub fn plan(content: impl Content + 'static, options: &Options) -> Result<Self> {
        let content: Arc<dyn Content> = Arc::new(content);
        let mut problems = Problems(Vec::new());
        if content.is_empty() {
            problems.0.push("the content is empty, and a tree needs a block".to_owned());
        }
        let salt =
            options.salt.clone().unwrap_or_else(|| options.seed.derive("verity salt").into());
        if salt.len() > MAX_SALT {
            problems.0.push(format!("the salt has {} bytes, at most {MAX_SALT}", salt.len()));
        }
        problems.check("verity")?;
        let plan = Plan {
            data_blocks: content.len().div_ceil(BLOCK),
            content,
            salt,
            uuid: options.uuid.unwrap_or_else(|| options.seed.guid("verity")),
            superblock: options.superblock,
            threads: crate::parallel::threads(options.threads),
            tree: OnceLock::new(),
        };
        Ok(Self { plan: Arc::new(plan) })
    }

    /// Data and tree in one content, for one partition or file.
    #[must_use]
    pub fn protected(&self) -> Protected {
        Protected(self.clone())
    }

    /// The data alone. While they are written they are hashed, so that the tree, if it comes later
    /// on the disk, needs no reading of its own.
    #[must_use]
    pub fn data(&self) -> Data {
        Data(self.clone())
    }

    /// The tree alone, with its superblock, if there is one.
    #[must_use]
    pub fn tree(&self) -> HashTree {
        HashTree(self.clone())
    }

    /// What a kernel needs beside the root hash to check [`Verity::protected`].
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        let inside = self.parameters_of_tree();
        Parameters { tree_block: inside.tree_block + self.plan.data_blocks, ..inside }
    }

    /// The same for [`Verity::data`] and [`Verity::tree`] on two devices.
    #[must_use]
    pub fn parameters_of_tree(&self) -> Parameters {
        Parameters {
            data_blocks: self.plan.data_blocks,
            tree_block: u64::from(self.plan.superblock),
            salt: self.plan.salt.clone(),
        }
    }

    /// The root hash. The content is read for it, unless it was written before.
    ///
    /// # Errors
    /// Those of the content.
    pub fn root_hash(&self) -> Result<RootHash> {
        Ok(self.hashes()?.root)
    }

    fn hashes(&self) -> Result<&Tree> {
        if self.plan.tree.get().is_none() {
            self.pass(&mut Nowhere)?;
        }
        self.plan.tree.get().ok_or_else(|| Error::NotFound {
            what: "the hashes".to_owned(),
            place: "what was just read".to_owned(),
        })
    }

    /// Streams the data and hashes them.
    fn pass(&self, sink: &mut dyn Sink) -> Result<()> {
        let plan = &self.plan;
        let hasher = Hasher::new(&plan.salt);
        let hashes = hash::pass(&*plan.content, &hasher, plan.threads, sink)?;
        let blocks = (hashes.len() / DIGEST) as u64;
        if blocks != plan.data_blocks {
            let reason = format!("the content has {blocks} blocks, expected {}", plan.data_blocks);
            return Err(Error::malformed("verity", blocks.saturating_mul(BLOCK), reason));
        }
        let tree = Tree::new(hashes, &hasher);
        let root = tree.root;
        let known = plan.tree.get_or_init(|| tree).root;
        if known != root {
            let reason =
                format!("the content has changed: its root hash was {known} and is {root}");
            return Err(Error::malformed("verity", 0, reason));
        }
        Ok(())
    }

    fn data_len(&self) -> u64 {
        self.plan.data_blocks * BLOCK
    }

    fn tree_len(&self) -> u64 {
        let parameters = self.parameters_of_tree();
        let levels: u64 = parameters.levels().iter().map(|(_, count)| count).sum();
        (parameters.tree_block + levels) * BLOCK
    }

    fn write_tree(&self, sink: &mut dyn Sink) -> Result<()> {
        let tree = self.hashes()?;
        if self.plan.superblock {
            sink.data(&superblock::emit(&self.parameters_of_tree(), self.plan.uuid))?;
        }
        tree.levels.iter().rev().try_for_each(|level| sink.data(level))
    }
}

/// Data, then their tree.
#[derive(Debug, Clone)]
pub struct Protected(Verity);

impl Content for Protected {
    fn len(&self) -> u64 {
        self.0.data_len() + self.0.tree_len()
    }

    fn write_to(&self, sink: &mut dyn Sink) -> Result<()> {
        self.0.pass(sink)?;
        self.0.write_tree(sink)
    }

    fn placed_at(&self) -> Option<Lba> {
        self.0.plan.content.placed_at()
    }
}

/// The data that a tree is over.
#[derive(Debug, Clone)]
pub struct Data(Verity);

impl Content for Data {
    fn len(&self) -> u64 {
        self.0.data_len()
    }

    fn write_to(&self, sink: &mut dyn Sink) -> Result<()> {
        self.0.pass(sink)
    }

    fn placed_at(&self) -> Option<Lba> {
        self.0.plan.content.placed_at()
    }
}

/// A tree without its data.
#[derive(Debug, Clone)]
pub struct HashTree(Verity);

impl Content for HashTree {
    fn len(&self) -> u64 {
        self.0.tree_len()
    }

    fn write_to(&self, sink: &mut dyn Sink) -> Result<()> {
        self.0.write_tree(sink)
    }
}
