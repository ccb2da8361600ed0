//! Definitions as container images: layers of their trees, each on top of those of its base.

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use kiln_initramfs::Compression;
use kiln_oci::appc::{self, ImageManifest};
use kiln_oci::docker::{self, Form};
use kiln_oci::{Descriptor, Difference, Digest, Image, Layer, Settings};
use kiln_tree::{Source, Tree, TreePath};
use serde_json::json;

use super::{Options, Plan, base, plan};
use crate::definition::{Definition, Format, Placed};
use crate::manifest::InputRecord;
use crate::{Cache, Error, Progress, Result, archive, cache, digest, image};

/// An image that begins with one that begins with another, and so on.
const DEEPEST: usize = 8;

/// Several images in one file.
pub(super) struct Archive {
    pub(super) path: PathBuf,
    /// What they are.
    pub(super) images: Vec<InputRecord>,
}

/// What is known of an image by whoever builds on top of it.
struct Built {
    layers: Vec<Layer>,
    tree: Tree,
}

/// Writes the image of a definition.
pub(super) fn write(
    definition: &Definition,
    options: &Options,
    plan: &Plan,
    format: Format,
    path: &Path,
    progress: &Progress,
) -> Result<()> {
    if format == Format::Aci {
        return write_aci(definition, options, plan, path, progress);
    }
    let image = image_of(definition, options, plan, progress)?;
    let form = if format == Format::Docker { Form::Legacy } else { Form::Layout };
    write_images(&[(vec![reference(definition)], &image)], form, path)
}

/// Writes the image of a definition for appc: all of its tree, whatever it begins with.
fn write_aci(
    definition: &Definition,
    options: &Options,
    plan: &Plan,
    path: &Path,
    progress: &Progress,
) -> Result<()> {
    let tree =
        built(definition, options, plan, progress, Wanted { layers: false, deepest: DEEPEST })?;
    let manifest = aci_manifest(definition, &tree.tree)?;
    let file = BufWriter::new(cache::beside(path)?);
    let (file, _) = appc::write(&manifest, &tree.tree, kiln_oci::Compression::Gzip, file)?;
    let file = file.into_inner();
    let file = file.map_err(|error| Error::io("write", path)(error.into_error()))?;
    cache::persist(file, path)
}

/// What an image of appc says of itself: the same as one of the OCI would, and its isolators.
fn aci_manifest(definition: &Definition, tree: &Tree) -> Result<ImageManifest> {
    let reference = reference(definition);
    let (name, version) = reference.split_once(':').unwrap_or((&reference, "latest"));
    let image = Image::build(Vec::new(), &settings(definition))?;
    // What has no words there (how it came about, the signal that ends it) is no loss for who asked for it.
    let (mut manifest, _) = appc::from_image(&image, tree, name.parse()?)?;
    manifest.labels.insert("version".parse()?, version.to_owned());
    let Some(isolators) = &definition.container.isolators else { return Ok(manifest) };
    let place = isolators.at.map(|at| format!(":{at}")).unwrap_or_default();
    let place = format!("{}{place}: isolators", definition.file.display());
    let broken = |error: serde_json::Error| Error::input(place.clone(), error.to_string());
    let mut value: serde_json::Value =
        serde_json::from_slice(&manifest.to_bytes()?).map_err(broken)?;
    let list = isolators.iter().map(|(name, value)| json!({ "name": name, "value": value }));
    if let Some(app) = value.get_mut("app").and_then(serde_json::Value::as_object_mut) {
        app.insert("isolators".into(), list.collect());
    }
    // Its own reader judges them.
    let bytes = serde_json::to_vec(&value).map_err(broken)?;
    Ok(ImageManifest::parse(&place, &bytes)?)
}

/// Builds images and writes them into one archive, which the cache keeps: a layout that `docker load`
/// reads too from version 25 on.
pub(super) fn archive(
    definition: &Definition,
    options: &Options,
    files: &[Placed<PathBuf>],
    progress: &Progress,
) -> Result<Archive> {
    let mut built = Vec::new();
    let mut records = Vec::new();
    for file in files {
        let (own, nested) = read(definition, options, file)?;
        let plan = plan(&own, &nested, progress)?;
        let image = image_of(&own, &nested, &plan, progress)?;
        records.push(InputRecord {
            name: reference(&own),
            version: own.version.clone(),
            kind: "container image".into(),
            sha256: image.digest().digest().into(),
        });
        built.push((vec![reference(&own)], image));
    }
    let key = digest::of_parts(
        records.iter().flat_map(|record| [record.name.as_bytes(), record.sha256.as_bytes()]),
    );
    let path = options.cache.get_or_make(format!("images/{key}.tar"), |made| {
        let images: Vec<_> = built.iter().map(|(tags, image)| (tags.clone(), image)).collect();
        write_images(&images, Form::Layout, made)
    })?;
    Ok(Archive { path, images: records })
}

fn write_images(images: &[(Vec<String>, &Image)], form: Form, path: &Path) -> Result<()> {
    let file = cache::beside(path)?;
    let ended = docker::write(BufWriter::new(file), images, form)?.into_inner();
    let file = ended.map_err(|error| Error::io("write", path)(error.into_error()))?;
    cache::persist(file, path)
}

/// A definition that another one names, and how it is built.
fn read(
    definition: &Definition,
    options: &Options,
    file: &Placed<PathBuf>,
) -> Result<(Definition, Options)> {
    let own = Definition::read(&definition.host_path(file))?;
    let nested = Options {
        formats: vec![Format::Oci],
        locked: options.locked,
        offline: options.offline,
        cache: options.cache.clone(),
        ..Options::default()
    };
    if own.kernel.is_some() || own.init.is_some() {
        let place = file.at.map(|at| format!(":{at}")).unwrap_or_default();
        let text =
            format!("{} has a kernel or an init, which no container has", own.file.display());
        return Err(Error::input(format!("{}{place}", definition.file.display()), text));
    }
    Ok((own, nested))
}

/// What an image is called.
fn reference(definition: &Definition) -> String {
    match &definition.container.reference {
        Some(reference) => reference.value.clone(),
        None => {
            let tag = definition.version.as_deref().unwrap_or("latest");
            format!("{}:{tag}", *definition.name)
        }
    }
}

fn image_of(
    definition: &Definition,
    options: &Options,
    plan: &Plan,
    progress: &Progress,
) -> Result<Image> {
    let wanted = Wanted { layers: true, deepest: DEEPEST };
    let built = built(definition, options, plan, progress, wanted)?;
    Ok(Image::build(built.layers, &settings(definition))?)
}

fn settings(definition: &Definition) -> Settings {
    let container = &definition.container;
    let texts = |list: &[Placed<String>]| list.iter().map(|text| text.value.clone()).collect();
    let text = |text: &Option<Placed<String>>| text.as_ref().map(|text| text.value.clone());
    let mut settings = Settings::default();
    settings.created = Some(definition.epoch);
    settings.entrypoint.clone_from(&container.entrypoint);
    settings.cmd.clone_from(&container.command);
    settings.env =
        container.env.iter().map(|(name, value)| format!("{name}={}", value.value)).collect();
    settings.user = text(&container.user);
    settings.working_dir = text(&container.directory);
    settings.labels =
        container.labels.iter().map(|(name, value)| (name.clone(), value.value.clone())).collect();
    settings.exposed_ports = texts(&container.ports);
    settings.volumes = texts(&container.volumes);
    settings.stop_signal = text(&container.stop_signal);
    settings.history = vec![format!("kiln build {}", *definition.name)];
    settings
}

/// How much of an image is wanted.
#[derive(Clone, Copy)]
struct Wanted {
    /// Its layers, and not the tree alone.
    layers: bool,
    /// How many images it may be on top of.
    deepest: usize,
}

/// The layers of a definition: those of its base, and what is another or new.
fn built(
    definition: &Definition,
    options: &Options,
    own: &Plan,
    progress: &Progress,
    wanted: Wanted,
) -> Result<Built> {
    let below = match (&options.base, &definition.container.base) {
        (Some(path), _) => {
            let (layer, tree) = archive::read_file(path, &options.cache)?;
            Built { layers: vec![layer], tree }
        }
        (None, None) => Built { layers: Vec::new(), tree: Tree::new() },
        (None, Some(file)) => {
            let Some(deepest) = wanted.deepest.checked_sub(1) else {
                let text = format!("more than {DEEPEST} images on top of each other");
                return Err(Error::input(definition.file.display().to_string(), text));
            };
            let (base, nested) = read(definition, options, file)?;
            let below = plan(&base, &nested, progress)?;
            built(&base, &nested, &below, progress, Wanted { deepest, ..wanted })?
        }
    };
    let mut tree = below.tree.clone();
    tree.set_root(own.tree.root().clone());
    let usual = usual(definition)?;
    for (path, node) in &own.tree {
        // What nobody asked for does not take the place of what somebody has.
        if tree.contains(path.as_bytes()) && usual.get(path).is_some_and(|it| it.same_as(node)) {
            continue;
        }
        match tree.contains(path.as_bytes()) {
            true => tree.replace(path.as_bytes(), node.clone())?,
            false => tree.insert(path.as_bytes(), node.clone())?,
        }
    }
    let mut layers = below.layers;
    if !wanted.layers {
        return Ok(Built { layers, tree });
    }
    let difference = Difference::between(&below.tree, &tree)?;
    if !difference.is_empty() {
        layers.push(layer(&options.cache, own, difference.tree(), progress)?);
    }
    Ok(Built { layers, tree })
}

/// What a definition's tree has without asking, names of its users aside if it has any.
fn usual(definition: &Definition) -> Result<Tree> {
    let mut usual = Tree::new();
    base::add(&mut usual, definition)?;
    if !definition.users.is_empty() || !definition.groups.is_empty() {
        for path in ["etc/passwd", "etc/group"] {
            usual.remove(&TreePath::new(path)?);
        }
    }
    Ok(usual)
}

/// A tree as a layer, whose bytes the cache keeps.
fn layer(cache: &Cache, plan: &Plan, tree: &Tree, progress: &Progress) -> Result<Layer> {
    let compression = Compression::ZSTD;
    let key = image::key(tree, &plan.records, compression);
    let path = cache.get_or_make(format!("layer/{key}"), |made| {
        let step = progress.step(format!("compressing a layer of {}", plan.manifest.name));
        std::fs::create_dir(made).map_err(Error::io("create directory", made))?;
        let packed = archive::write_file(tree, compression, &made.join("layer.tar.zst"))?;
        cache::write_file(&made.join("diff-id"), packed.diff_id.to_string().as_bytes())?;
        step.done();
        Ok(())
    })?;
    let text = |name: &str| {
        let path = path.join(name);
        std::fs::read_to_string(&path).map_err(Error::io("read", &path))
    };
    let diff_id = text("diff-id")?.parse().map_err(|_| broken(&path))?;
    let bytes = path.join("layer.tar.zst");
    let len = std::fs::metadata(&bytes).map_err(Error::io("stat", &bytes))?.len();
    let digest = format!("sha256:{}", digest::of_file(&bytes)?).parse::<Digest>();
    let media_type = Layer::media_type(kiln_oci::Compression::Zstd);
    let descriptor = Descriptor::new(media_type, len, digest.map_err(|_| broken(&bytes))?);
    Ok(Layer::new(descriptor, diff_id, Source::File { path: bytes, len }))
}

fn broken(path: &Path) -> Error {
    Error::input(path.display().to_string(), "the cache is damaged here: delete it")
}
