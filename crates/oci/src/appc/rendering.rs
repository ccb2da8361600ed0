//! Images put upon those that they depend on (ace.md, "Filesystem Setup").

#[cfg(feature = "host")]
use std::path::Path;
use std::sync::Arc;

use kiln_tree::Tree;

use super::aci::Aci;
use super::image::Dependency;
use super::names::ImageId;
use super::place::{Chosen, Whitelist};
use super::stream;
use crate::digest::{self, Expected};
#[cfg(feature = "host")]
use crate::host::{self, Unpack};
use crate::layer::{self, Apply, Rules, Sink, Spool};
use crate::{Error, Limits, Result};

/// An image with all that it depends on, in the order in which they are put one upon the other.
#[derive(Debug, Clone)]
pub struct Rendering {
    image: Aci,
    passes: Vec<Pass>,
}

/// An image, as often as it is a dependency.
#[derive(Debug, Clone)]
struct Pass {
    image: Aci,
    /// The lists of the image and of those above it.
    lists: Vec<Arc<Whitelist>>,
}

/// The dependencies of an image that is being looked at.
struct Search<'find> {
    find: &'find mut dyn FnMut(&Dependency) -> Result<Option<Aci>>,
    limits: &'find Limits,
    passes: Vec<Pass>,
    /// The image, and those that lead to it.
    above: Vec<Aci>,
}

impl Rendering {
    /// Asks for each image that is depended upon, as often as it is. `find` gives one by name, labels
    /// and ID, or none; what it gives is compared with what was asked for. An image without
    /// dependencies asks for nothing.
    ///
    /// # Errors
    /// [`Error::Missing`] for an image that is not found; [`Error::Manifest`] for one that is another
    /// than was asked for, for dependencies in a circle, and for more of them, or deeper ones, than the
    /// limits allow; what `find` says.
    pub fn new(
        image: Aci,
        limits: &Limits,
        find: &mut dyn FnMut(&Dependency) -> Result<Option<Aci>>,
    ) -> Result<Self> {
        let mut search = Search { find, limits, passes: Vec::new(), above: Vec::new() };
        search.image(image.clone(), &[])?;
        Ok(Self { image, passes: search.passes })
    }

    /// The image itself.
    #[must_use]
    pub fn image(&self) -> &Aci {
        &self.image
    }

    /// The images in the order in which they are put one upon the other, the image itself last.
    pub fn images(&self) -> impl ExactSizeIterator<Item = &Aci> {
        self.passes.iter().map(|pass| &pass.image)
    }

    /// The root as a tree, by the code that applies layers. Contents are kept in the spool, in memory
    /// where there is none, or where they are in archives that are not compressed.
    ///
    /// # Errors
    /// [`Error::Entry`] for device nodes that are refused and what is beyond the limits;
    /// [`Error::Blob`] for an archive that has changed; [`Error::Io`].
    pub fn tree(&self, options: &layer::Options, spool: Option<&mut Spool>) -> Result<Tree> {
        let apply = Apply::onto(Tree::new(), Rules::Roots, options);
        layer::kept(apply, spool, |apply, sink| self.apply(&options.limits, apply, sink))
    }

    /// Unpacks the root into a new or empty directory, as [`host::unpack`] does it.
    ///
    /// # Errors
    /// As [`Rendering::tree`] and [`host::unpack`].
    #[cfg(feature = "host")]
    pub fn unpack(&self, directory: &Path, options: &Unpack) -> Result<Tree> {
        let limits = &options.layers.limits;
        host::fill(directory, Rules::Roots, options, |apply, disk| self.apply(limits, apply, disk))
    }

    fn apply(&self, limits: &Limits, apply: &mut Apply<'_>, sink: &mut dyn Sink) -> Result<()> {
        for Pass { image, lists } in &self.passes {
            let chosen = Chosen::of(image, lists);
            // It was looked at before, and may have changed since.
            let mut expected = Expected::new(&image.id.digest()?, None)?;
            let look = |bytes: Option<&[u8]>| {
                let looked = match bytes {
                    Some(bytes) => expected.update(bytes),
                    None => expected.end(),
                };
                looked.map_err(Error::into_io)
            };
            let origin = &*image.origin;
            stream::read(origin, &image.source, image.packing, limits, look, |archive| {
                let prepare = &mut |entry, _: &mut dyn std::io::Read| chosen.entry(entry, limits);
                apply.entries(origin, &image.plain(), archive, prepare, sink)
            })?;
        }
        Ok(())
    }
}

impl Search<'_> {
    fn image(&mut self, image: Aci, lists: &[Arc<Whitelist>]) -> Result<()> {
        let limits = self.limits;
        let name = image.manifest.name.clone();
        let refuse =
            |problem: String| Error::Manifest { origin: name.to_string(), problems: vec![problem] };
        if let Some(at) = self.above.iter().position(|above| above.id == image.id) {
            let around = self.above.get(at..).unwrap_or_default().iter().chain([&image]);
            let names: Vec<&str> = around.map(|image| image.manifest.name.as_str()).collect();
            return Err(refuse(format!("it depends on itself: {}", names.join(" → "))));
        }
        if self.above.len() > limits.dependencies {
            let limit = limits.dependencies;
            return Err(refuse(format!(
                "there are more than {limit} dependencies one below the other"
            )));
        }
        let own = Whitelist::of(&image.manifest.path_whitelist).map(Arc::new);
        let lists: Vec<Arc<Whitelist>> = lists.iter().cloned().chain(own).collect();
        self.above.push(image.clone());
        for dependency in &image.manifest.dependencies {
            let found = (self.find)(dependency)?.ok_or_else(|| Error::Missing {
                place: format!("dependencies of {name}"),
                what: wanted(dependency),
                there: Vec::new(),
            })?;
            let differences = differences(dependency, &found);
            if !differences.is_empty() {
                return Err(Error::Manifest { origin: name.to_string(), problems: differences });
            }
            self.image(found, &lists)?;
        }
        self.above.pop();
        if self.passes.len() >= limits.manifests {
            let limit = limits.manifests;
            return Err(refuse(format!(
                "more than {limit} images would be put one upon the other"
            )));
        }
        self.passes.push(Pass { image, lists });
        Ok(())
    }
}

/// A dependency as text.
fn wanted(dependency: &Dependency) -> String {
    let mut text = format!("image {}", dependency.image_name);
    for (name, value) in &dependency.labels {
        text.push_str(&format!(", {name}={}", value.escape_default()));
    }
    if let Some(id) = &dependency.image_id {
        text.push_str(&format!(", {id}"));
    }
    text
}

/// What of an image is not as it was asked for (aci.md, "Dependency Matching").
fn differences(dependency: &Dependency, found: &Aci) -> Vec<String> {
    let wanted = &dependency.image_name;
    let mut problems = Vec::new();
    let mut differs = |what: &str, wanted_is: &str, is: &str| {
        let (is, wanted_is) = (is.escape_default(), wanted_is.escape_default());
        problems.push(format!("dependency {wanted}: its {what} is {is}, not {wanted_is}"));
    };
    let manifest = &found.manifest;
    if manifest.name != *wanted {
        differs("name", wanted.as_str(), manifest.name.as_str());
    }
    for (name, value) in &dependency.labels {
        let label = manifest.labels.get(name).map_or("not there", String::as_str);
        if manifest.labels.get(name) != Some(value) {
            differs(&format!("label {name}"), value, label);
        }
    }
    if let Some(id) = dependency.image_id.as_ref().filter(|id| **id != found.id) {
        differs("ID", id.as_str(), found.id.as_str());
    }
    if let Some(size) = dependency.size.filter(|size| *size != found.source.len()) {
        differs("size", &size.to_string(), &found.source.len().to_string());
    }
    problems
}

impl ImageId {
    /// As the OCI writes digests.
    fn digest(&self) -> Result<crate::Digest> {
        digest::parse(&self.as_str().replacen('-', ":", 1))
    }
}
