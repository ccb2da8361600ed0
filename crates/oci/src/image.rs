//! Images: a manifest, a configuration, and layers whose bytes are somewhere.

use std::collections::BTreeMap;

use kiln_tree::{Source, Tree};
use oci_spec::image::{
    Arch, Config, Descriptor, Digest, History, ImageConfiguration, ImageManifest, MediaType, Os,
    Platform, RootFs,
};

use crate::layer::{self, Layer, Spool};
use crate::limits::Limits;
use crate::{Error, Result, digest, json, time};

/// An image. The bytes of manifest and configuration are kept as they were found, so that digests
/// hold; those of the layers are where they are until somebody reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Image {
    /// The manifest's descriptor, with the platform.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: ImageManifest,
    /// Its bytes.
    pub manifest_bytes: Vec<u8>,
    /// The configuration.
    pub config: ImageConfiguration,
    /// Its bytes.
    pub config_bytes: Vec<u8>,
    /// The layers, the lowest first.
    pub layers: Vec<Layer>,
}

/// What an image says besides its layers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// The processor, in Go's words. Default: `amd64`.
    pub architecture: String,
    /// Its variant (`v7`).
    pub variant: Option<String>,
    /// The system. Default: `linux`.
    pub os: String,
    /// When the image was made, in seconds since 1970: what SOURCE_DATE_EPOCH says, never a clock.
    /// Default: none.
    pub created: Option<u64>,
    /// Who made it.
    pub author: Option<String>,
    /// The program, and the first of its arguments.
    pub entrypoint: Vec<String>,
    /// The arguments that whoever runs it may give others for.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// `user`, `uid`, `user:group` and so on.
    pub user: Option<String>,
    /// The working directory.
    pub working_dir: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Directories whose content is no part of the image.
    pub volumes: Vec<String>,
    /// The signal that ends it (`SIGTERM`).
    pub stop_signal: Option<String>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// How each layer came to be, for people; the last is used for those that have none.
    pub history: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            architecture: "amd64".into(),
            variant: None,
            os: "linux".into(),
            created: None,
            author: None,
            entrypoint: Vec::new(),
            cmd: Vec::new(),
            env: Vec::new(),
            user: None,
            working_dir: None,
            labels: BTreeMap::new(),
            exposed_ports: Vec::new(),
            volumes: Vec::new(),
            stop_signal: None,
            annotations: BTreeMap::new(),
            history: Vec::new(),
        }
    }
}

fn some<T>(items: &[T]) -> Option<Vec<T>>
where
    T: Clone,
{
    (!items.is_empty()).then(|| items.to_vec())
}

impl Image {
    /// Makes an image of layers, the lowest first. The same layers and settings give the same bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] for settings that mean nothing.
    pub fn build(layers: Vec<Layer>, settings: &Settings) -> Result<Self> {
        if let Some(bad) = settings.env.iter().find(|pair| !pair.contains('=')) {
            return Err(Error::invalid(bad, "an environment variable is NAME=value"));
        }
        let created = settings.created.map(time::rfc3339).transpose()?;
        let mut run = Config::default();
        run.set_entrypoint(some(&settings.entrypoint));
        run.set_cmd(some(&settings.cmd));
        run.set_env(some(&settings.env));
        run.set_user(settings.user.clone());
        run.set_working_dir(settings.working_dir.clone());
        run.set_exposed_ports(some(&settings.exposed_ports));
        run.set_volumes(some(&settings.volumes));
        run.set_stop_signal(settings.stop_signal.clone());
        if !settings.labels.is_empty() {
            run.set_labels(Some(settings.labels.clone().into_iter().collect()));
        }
        let mut rootfs = RootFs::default();
        rootfs.set_diff_ids(layers.iter().map(|layer| layer.diff_id.to_string()).collect());
        let mut config = ImageConfiguration::default();
        config.set_created(created.clone());
        config.set_author(settings.author.clone());
        config.set_architecture(Arch::from(settings.architecture.as_str()));
        config.set_variant(settings.variant.clone());
        config.set_os(Os::from(settings.os.as_str()));
        config.set_rootfs(rootfs);
        config.set_config(Some(run));
        if !settings.history.is_empty() {
            let history = (0..layers.len()).map(|number| {
                let mut history = History::default();
                history.set_created(created.clone());
                let by = settings.history.get(number).or_else(|| settings.history.last());
                history.set_created_by(by.cloned());
                history
            });
            config.set_history(Some(history.collect()));
        }
        let config_bytes = json::write(&config)?;
        let annotations = &settings.annotations;
        Self::assemble(config, config_bytes, layers, annotations)
    }

    /// An image of a configuration as it is.
    pub(crate) fn assemble(
        config: ImageConfiguration,
        config_bytes: Vec<u8>,
        layers: Vec<Layer>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let size = config_bytes.len() as u64;
        let about = Descriptor::new(MediaType::ImageConfig, size, digest::of(&config_bytes)?);
        let mut manifest = oci_spec::image::ImageManifestBuilder::default()
            .schema_version(oci_spec::image::SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(about)
            .layers(layers.iter().map(|layer| layer.descriptor.clone()).collect::<Vec<_>>())
            .build()
            .map_err(|error| Error::document("manifest", error))?;
        if !annotations.is_empty() {
            manifest.set_annotations(Some(annotations.clone().into_iter().collect()));
        }
        let manifest_bytes = json::write(&manifest)?;
        let size = manifest_bytes.len() as u64;
        let mut descriptor =
            Descriptor::new(MediaType::ImageManifest, size, digest::of(&manifest_bytes)?);
        descriptor.set_platform(Some(platform_of(&config)));
        Ok(Self { descriptor, manifest, manifest_bytes, config, config_bytes, layers })
    }

    /// An image of the bytes of its documents, which have been checked against their digests, and of
    /// whoever knows where layers are.
    pub(crate) fn of_documents(
        mut descriptor: Descriptor,
        manifest_bytes: Vec<u8>,
        config_bytes: Vec<u8>,
        layer: &mut dyn FnMut(&Descriptor) -> Result<Source>,
        limits: &Limits,
    ) -> Result<Self> {
        let origin = descriptor.digest().to_string();
        let manifest: ImageManifest = manifest_of(&origin, &manifest_bytes)?;
        let about = manifest.config().digest().to_string();
        let config = config_of(&about, &config_bytes)?;
        let diff_ids = config.rootfs().diff_ids();
        if diff_ids.len() != manifest.layers().len() {
            let (ids, layers) = (diff_ids.len(), manifest.layers().len());
            let reason = format!("it has {ids} diff_ids, and manifest {origin} {layers} layers");
            return Err(Error::document(about, reason));
        }
        if diff_ids.len() > limits.manifests {
            return Err(Error::document(origin, format!("it has {} layers", diff_ids.len())));
        }
        let mut layers = Vec::new();
        for (descriptor, diff_id) in manifest.layers().iter().zip(diff_ids) {
            let diff_id = digest::parse(diff_id)?;
            layers.push(Layer::new(descriptor.clone(), diff_id, layer(descriptor)?));
        }
        if descriptor.platform().is_none() {
            descriptor.set_platform(Some(platform_of(&config)));
        }
        Ok(Self { descriptor, manifest, manifest_bytes, config, config_bytes, layers })
    }

    /// The digest of the manifest, by which an image is told from any other.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        self.descriptor.digest()
    }

    /// The tree that the layers make together.
    ///
    /// # Errors
    /// As [`Layer::apply`].
    pub fn tree(&self, options: &layer::Options, spool: Option<&mut Spool>) -> Result<Tree> {
        Layer::apply(Tree::new(), &self.layers, options, spool)
    }

    /// The blobs, each once: layers, configuration. The manifest is not among them.
    pub(crate) fn blobs(&self) -> BTreeMap<String, (Descriptor, Source)> {
        let mut blobs = BTreeMap::new();
        for layer in &self.layers {
            let key = layer.descriptor.digest().to_string();
            blobs.insert(key, (layer.descriptor.clone(), layer.source.clone()));
        }
        let config = self.manifest.config();
        let source = Source::from(self.config_bytes.clone());
        blobs.insert(config.digest().to_string(), (config.clone(), source));
        blobs
    }
}

/// A configuration. What is a list for us and an object in JSON has the order of a hash map, which
/// must not show.
pub(crate) fn config_of(origin: &str, bytes: &[u8]) -> Result<ImageConfiguration> {
    let mut config: ImageConfiguration = json::parse(origin, bytes)?;
    if let Some(mut run) = config.config().clone() {
        let sorted = |list: &Option<Vec<String>>| {
            let mut list = list.clone()?;
            list.sort();
            Some(list)
        };
        run.set_exposed_ports(sorted(run.exposed_ports()));
        run.set_volumes(sorted(run.volumes()));
        config.set_config(Some(run));
    }
    Ok(config)
}

/// A manifest with at least what makes it one: the media type is not always there.
pub(crate) fn manifest_of(origin: &str, bytes: &[u8]) -> Result<ImageManifest> {
    let manifest: ImageManifest = json::parse(origin, bytes)?;
    if manifest.schema_version() != oci_spec::image::SCHEMA_VERSION {
        let reason = format!("its schemaVersion is {}, not 2", manifest.schema_version());
        return Err(Error::document(origin, reason));
    }
    Ok(manifest)
}

pub(crate) fn platform_of(config: &ImageConfiguration) -> Platform {
    let mut platform = Platform::default();
    platform.set_architecture(config.architecture().clone());
    platform.set_os(config.os().clone());
    platform.set_variant(config.variant().clone());
    platform.set_os_version(config.os_version().clone());
    platform
}
