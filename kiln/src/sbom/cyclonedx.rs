//! CycloneDX 1.6 as JSON (ECMA-424).

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Context, Licence, TOOL, TOOL_VERSION, purl};
use crate::manifest::{FileEntry, Manifest, PackageRecord};
use crate::{Error, Result};

/// The manifest as a CycloneDX 1.6 document.
///
/// Every path of the image is a component of type `file`, inside the component of the package or
/// input that it comes from. Properties of ours begin with `kiln:`.
///
/// # Errors
/// [`Error::Input`] with everything that [`Manifest::check`] finds.
pub fn cyclonedx(manifest: &Manifest, context: &Context) -> Result<String> {
    let manifest = &manifest.sorted();
    let uuid = context.uuid(manifest, "cyclonedx 1.6")?;
    let mut of_package: BTreeMap<&str, Vec<Component<'_>>> = BTreeMap::new();
    let mut of_input: BTreeMap<&str, Vec<Component<'_>>> = BTreeMap::new();
    let mut of_none = Vec::new();
    for entry in &manifest.files {
        match (&entry.package, &entry.input) {
            (Some(package), _) => of_package.entry(package).or_default().push(file(entry)),
            (None, Some(input)) => of_input.entry(input).or_default().push(file(entry)),
            (None, None) => of_none.push(file(entry)),
        }
    }
    let mut components = Vec::new();
    for record in &manifest.packages {
        let mut component = package(record);
        component.components = of_package.remove(record.name.as_str()).unwrap_or_default();
        components.push(component);
    }
    for record in &manifest.inputs {
        let mut component = Component::new("file", format!("input:{}", record.name), &record.name);
        component.version = record.version.as_deref();
        component.hashes = vec![Hash::sha256(&record.sha256)];
        component.property("kind", &record.kind);
        component.components = of_input.remove(record.name.as_str()).unwrap_or_default();
        components.push(component);
    }
    for artifact in &manifest.artifacts {
        let reference = format!("artifact:{}", artifact.path);
        let mut component = Component::new("file", reference, &artifact.path);
        component.hashes = vec![Hash::sha256(&artifact.sha256)];
        component.property("kind", &artifact.kind);
        component.property("size", &artifact.size.to_string());
        components.push(component);
    }
    components.append(&mut of_none);

    let mut image = Component::new("operating-system", "image".into(), &manifest.name);
    image.version = manifest.version.as_deref();
    if let Some(kernel) = &manifest.kernel {
        image.property("kernel", kernel);
        image.property("command-line", &manifest.command_line);
    }
    let mut tool = Component::new("application", format!("tool:{TOOL}"), TOOL);
    tool.version = Some(TOOL_VERSION);
    let document = Document {
        schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
        bom_format: "CycloneDX",
        spec_version: "1.6",
        serial_number: format!("urn:uuid:{uuid}"),
        version: 1,
        metadata: Metadata {
            timestamp: context.timestamp(),
            tools: Tools { components: [tool] },
            component: image,
        },
        components,
        dependencies: dependencies(manifest),
    };
    let mut text = serde_json::to_string_pretty(&document)
        .map_err(|error| Error::input("CycloneDX document", error.to_string()))?;
    text.push('\n');
    Ok(text)
}

/// The image depends on its packages and inputs, each package on what its record says.
fn dependencies(manifest: &Manifest) -> Vec<Dependency> {
    let package = |name: &String| format!("package:{name}");
    let mut direct: Vec<String> =
        manifest.packages.iter().map(|record| package(&record.name)).collect();
    direct.extend(manifest.inputs.iter().map(|record| format!("input:{}", record.name)));
    let of_packages = manifest.packages.iter().map(|record| {
        let mut depends_on: Vec<String> = record.depends.iter().map(package).collect();
        depends_on.sort_unstable();
        depends_on.dedup();
        Dependency { reference: package(&record.name), depends_on }
    });
    std::iter::once(Dependency { reference: "image".into(), depends_on: direct })
        .chain(of_packages)
        .collect()
}

fn package(record: &PackageRecord) -> Component<'_> {
    let reference = format!("package:{}", record.name);
    let mut component = Component::new("library", reference, &record.name);
    component.version = Some(&record.version);
    component.hashes = vec![Hash::sha256(&record.sha256)];
    component.purl = Some(purl(record));
    component.licenses = match Licence::of(record) {
        Licence::Expression(expression) => vec![License::Expression(expression)],
        Licence::Words(name) => vec![License::License { name }],
        Licence::Unknown => Vec::new(),
    };
    component.property("why", &record.why);
    component.property("source", &record.source);
    component.property("source-version", &record.source_version);
    component
}

fn file(entry: &FileEntry) -> Component<'_> {
    let mut component = Component::new("file", format!("file:{}", entry.path), &entry.path);
    component.hashes.extend(entry.sha256.as_deref().map(Hash::sha256));
    let sha1 = entry.sha1.as_deref();
    component.hashes.extend(sha1.map(|content| Hash { algorithm: "SHA-1", content }));
    let location = format!("/{}", entry.path);
    component.evidence = Some(Evidence { occurrences: [Occurrence { location }] });
    if let Some(why) = &entry.why {
        component.property("why", why);
    }
    component.property("kind", &entry.kind);
    component.property("mode", &entry.mode);
    if (entry.uid, entry.gid) != (0, 0) {
        component.property("owner", &format!("{}:{}", entry.uid, entry.gid));
    }
    if let Some(size) = entry.size {
        component.property("size", &size.to_string());
    }
    if let Some(target) = &entry.target {
        component.property("target", target);
    }
    if let Some(device) = &entry.device {
        component.property("device", device);
    }
    for (name, value) in &entry.xattrs {
        component.property(&format!("xattr:{name}"), value);
    }
    // Of two origins the package is where the component stands; the other is still told.
    if let Some(input) = entry.input.as_ref().filter(|_| entry.package.is_some()) {
        component.property("input", input);
    }
    component
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    bom_format: &'static str,
    spec_version: &'static str,
    serial_number: String,
    version: u32,
    metadata: Metadata<'a>,
    components: Vec<Component<'a>>,
    dependencies: Vec<Dependency>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    timestamp: String,
    tools: Tools<'a>,
    component: Component<'a>,
}

#[derive(Serialize)]
struct Tools<'a> {
    components: [Component<'a>; 1],
}

#[derive(Serialize)]
struct Component<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "bom-ref")]
    reference: String,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<License<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    components: Vec<Self>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<Evidence>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
}

impl<'a> Component<'a> {
    fn new(kind: &'static str, reference: String, name: &'a str) -> Self {
        Self {
            kind,
            reference,
            name,
            version: None,
            hashes: Vec::new(),
            licenses: Vec::new(),
            purl: None,
            components: Vec::new(),
            evidence: None,
            properties: Vec::new(),
        }
    }

    fn property(&mut self, name: &str, value: &str) {
        self.properties.push(Property { name: format!("kiln:{name}"), value: value.into() });
    }
}

#[derive(Serialize)]
struct Hash<'a> {
    #[serde(rename = "alg")]
    algorithm: &'static str,
    content: &'a str,
}

impl<'a> Hash<'a> {
    fn sha256(content: &'a str) -> Self {
        Self { algorithm: "SHA-256", content }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum License<'a> {
    Expression(&'a str),
    License { name: &'a str },
}

#[derive(Serialize)]
struct Evidence {
    occurrences: [Occurrence; 1],
}

#[derive(Serialize)]
struct Occurrence {
    location: String,
}

#[derive(Serialize)]
struct Property {
    name: String,
    value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    #[serde(rename = "ref")]
    reference: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    depends_on: Vec<String>,
}
