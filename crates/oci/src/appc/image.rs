//! Image manifests (aci.md, "Image Manifest Schema").

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::app::App;
use super::document::{self, Place, listed, object, pairs};
use super::names::{self, Identifier, ImageId, VERSION};
use crate::{Result, json};

const KEYS: [&str; 8] = [
    "acKind",
    "acVersion",
    "name",
    "labels",
    "app",
    "dependencies",
    "pathWhitelist",
    "annotations",
];

/// What an image says of itself.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ImageManifest {
    /// The version of the specification (`acVersion`).
    pub version: String,
    /// The image's name.
    pub name: Identifier,
    /// Labels: `version`, `os`, `arch` and others.
    pub labels: BTreeMap<Identifier, String>,
    /// What is run, unless a pod says something else.
    pub app: Option<App>,
    /// Images that are below this one, the lowest first.
    pub dependencies: Vec<Dependency>,
    /// The paths that are in the root after all; any, where there are none here.
    pub path_whitelist: Vec<String>,
    /// Annotations.
    pub annotations: BTreeMap<Identifier, String>,
}

/// An image that another one is put upon.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dependency {
    /// The image's name.
    pub image_name: Identifier,
    /// The image's ID, if it is to be just this one.
    pub image_id: Option<ImageId>,
    /// Labels that it has.
    pub labels: BTreeMap<Identifier, String>,
    /// The bytes of its archive as it is kept.
    pub size: Option<u64>,
}

impl Dependency {
    /// Any image of this name.
    #[must_use]
    pub fn new(image_name: Identifier) -> Self {
        Self { image_name, image_id: None, labels: BTreeMap::new(), size: None }
    }
}

impl ImageManifest {
    /// A manifest that says nothing but a name.
    #[must_use]
    pub fn new(name: Identifier) -> Self {
        Self {
            version: VERSION.into(),
            name,
            labels: BTreeMap::new(),
            app: None,
            dependencies: Vec::new(),
            path_whitelist: Vec::new(),
            annotations: BTreeMap::new(),
        }
    }

    /// Reads a manifest. `origin` is the file, for messages.
    ///
    /// # Errors
    /// [`Error::Document`](crate::Error::Document) for what is no JSON, with the line;
    /// [`Error::Manifest`](crate::Error::Manifest) with everything that is wrong, each with its path.
    pub fn parse(origin: &str, bytes: &[u8]) -> Result<Self> {
        document::read(origin, bytes, Self::read)
    }

    /// The manifest as JSON: equal manifests have equal bytes.
    ///
    /// # Errors
    /// As [`ImageManifest::parse`], for values that no manifest may have.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let bytes = json::write(&self.value())?;
        Self::parse(self.name.as_str(), &bytes).map(|_| bytes)
    }

    fn read(place: &Place<'_>) -> Option<Self> {
        let fields = place.fields(&KEYS)?;
        let head = head(&fields, "ImageManifest");
        let name = fields.required("name", Place::parsed);
        let labels = fields.or_default("labels", Place::labels);
        let app = fields.optional("app", App::read);
        let dependencies = fields.or_default("dependencies", |place| place.list(dependency));
        let path_whitelist = fields.or_default("pathWhitelist", |place| place.list(Place::path));
        let annotations = fields.or_default("annotations", Place::pairs);
        Some(Self {
            version: head?,
            name: name?,
            labels: labels?,
            app: app?,
            dependencies: dependencies?,
            path_whitelist: path_whitelist?,
            annotations: annotations?,
        })
    }

    fn value(&self) -> Value {
        let dependencies = self.dependencies.iter().map(|dependency| {
            object([
                ("imageName", Some(json!(dependency.image_name.as_str()))),
                ("imageID", dependency.image_id.as_ref().map(|id| json!(id.as_str()))),
                ("labels", listed(pairs(&dependency.labels))),
                ("size", dependency.size.map(|size| json!(size))),
            ])
        });
        object([
            ("acKind", Some(json!("ImageManifest"))),
            ("acVersion", Some(json!(self.version))),
            ("name", Some(json!(self.name.as_str()))),
            ("labels", listed(pairs(&self.labels))),
            ("app", self.app.as_ref().map(App::value)),
            ("dependencies", listed(dependencies.collect())),
            ("pathWhitelist", listed(json!(self.path_whitelist))),
            ("annotations", listed(pairs(&self.annotations))),
        ])
    }
}

/// What begins every manifest. Gives the version.
pub(super) fn head(fields: &document::Fields<'_, '_>, kind: &str) -> Option<String> {
    let found = fields.required("acKind", |place| {
        let found = place.text()?;
        if found == kind { Some(()) } else { place.refuse(format_args!("it is not {kind}")) }
    });
    let version = fields.required("acVersion", |place| {
        let text = place.text()?;
        match names::version(text) {
            Ok(()) => Some(text.to_owned()),
            Err(reason) => place.refuse(reason),
        }
    });
    found.and(version)
}

fn dependency(place: &Place<'_>) -> Option<Dependency> {
    let fields = place.fields(&["imageName", "imageID", "labels", "size"])?;
    let image_name = fields.required("imageName", Place::parsed);
    let image_id = fields.optional("imageID", Place::parsed);
    let labels = fields.or_default("labels", Place::labels);
    let size = fields.optional("size", |place| place.number(0, i64::MAX));
    Some(Dependency { image_name: image_name?, image_id: image_id?, labels: labels?, size: size? })
}
