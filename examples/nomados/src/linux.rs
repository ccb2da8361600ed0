//! The kernel of NomadOS, built from source as the seed did: nothing but what is needed, no modules.

use anyhow::Result;
use kiln::linux::{Recipe, Source};

use crate::build;

/// What makes the kernel, on top of `allnoconfig` and the kernel's own `kvm_guest.config`: names,
/// and texts.
pub const FRAGMENTS: [(&str, &str); 2] = [
    ("nomados.config", include_str!("../etc/linux/nomados.config")),
    ("hardening.config", include_str!("../etc/linux/hardening.config")),
];

/// How the kernel is made of a source of Linux 6.1.
///
/// # Errors
/// None: its parts are parts of this program, and a test reads them.
pub fn recipe(source: Source) -> Result<Recipe> {
    let mut recipe = Recipe::new(source);
    recipe.fragments.extend(FRAGMENTS.map(|(name, text)| (name.to_owned(), text.to_owned())));
    recipe.requirements = Some(build::requirements()?);
    Ok(recipe)
}
