//! Names of modules, and what paths say about them.

use std::borrow::Cow;

/// A module's name in the kernel's spelling: `-` becomes `_`.
pub(crate) fn canonical(name: &str) -> Cow<'_, str> {
    if name.contains('-') { name.replace('-', "_").into() } else { name.into() }
}

/// The module name that a path such as `kernel/fs/ext4/ext4.ko.xz` stands for.
///
/// `None` where the last component is not `NAME.ko` with or without a compression suffix.
pub(crate) fn of_path(path: &str) -> Option<String> {
    let file = uncompressed(path).rsplit('/').next()?;
    let stem = file.strip_suffix(".ko")?;
    (!stem.is_empty()).then(|| canonical(stem).into_owned())
}

/// A path without the compression suffix of its file.
pub(crate) fn uncompressed(path: &str) -> &str {
    [".gz", ".xz", ".zst"].iter().find_map(|suffix| path.strip_suffix(suffix)).unwrap_or(path)
}
