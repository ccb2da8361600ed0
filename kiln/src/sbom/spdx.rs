//! SPDX 2.3 as JSON (ISO/IEC 5962:2021 is 2.2.1; 2.3 made most licence fields optional).

use std::collections::BTreeMap;

use serde::Serialize;
use sha1::{Digest, Sha1};

use super::{Context, Licence, TOOL, TOOL_VERSION, percent_encoded, purl};
use crate::manifest::{FileEntry, InputRecord, Manifest, PackageRecord};
use crate::{Error, Result, digest};

const NOASSERTION: &str = "NOASSERTION";
const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const IMAGE: &str = "SPDXRef-Image";

/// The manifest as an SPDX 2.3 document.
///
/// Files are those with content: the specification (8.4) demands a SHA-1 of each, and so do its
/// validators. Packages are described, not analysed: what they hold beyond the image's files is
/// not known here.
///
/// # Errors
/// [`Error::Input`] with everything that [`Manifest::check`] finds.
pub fn spdx(manifest: &Manifest, context: &Context) -> Result<String> {
    let manifest = &manifest.sorted();
    let uuid = context.uuid(manifest, "spdx 2.3")?;
    let name = &manifest.name;
    let namespace = context.namespace.trim_end_matches('/');
    let mut document = Document {
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        spdx_id: DOCUMENT,
        name,
        document_namespace: format!("{namespace}/{}-{uuid}", percent_encoded(name)),
        creation_info: CreationInfo {
            created: context.timestamp(),
            creators: [format!("Tool: {TOOL}-{TOOL_VERSION}")],
        },
        packages: Vec::new(),
        files: Vec::new(),
        relationships: Vec::new(),
    };
    let with_content: Vec<(&FileEntry, &str, &str)> = manifest
        .files
        .iter()
        .filter_map(|file| Some((file, file.sha1.as_deref()?, file.sha256.as_deref()?)))
        .collect();

    document.packages.push(image(manifest, &with_content));
    document.relate(DOCUMENT, "DESCRIBES", IMAGE);
    let packages = ids("Package", manifest.packages.iter().map(|package| &package.name));
    let inputs = ids("Input", manifest.inputs.iter().map(|input| &input.name));
    for package in &manifest.packages {
        let Some(id) = packages.get(package.name.as_str()) else { continue };
        document.packages.push(debian_package(id, package));
        document.relate(IMAGE, "CONTAINS", id);
        for other in package.depends.iter().filter_map(|name| packages.get(name.as_str())) {
            document.relate(id, "DEPENDS_ON", other);
        }
    }
    for record in &manifest.inputs {
        let Some(id) = inputs.get(record.name.as_str()) else { continue };
        document.packages.push(input(id, record));
        document.relate(IMAGE, "GENERATED_FROM", id);
    }
    for artifact in &manifest.artifacts {
        let id = self::id("Artifact", &artifact.path);
        let mut package = Package::new(&id, &artifact.path);
        package.package_file_name = Some(artifact.path.clone());
        package.checksums = vec![Checksum::sha256(&artifact.sha256)];
        package.comment = Some(format!("{}, {} bytes", artifact.kind, artifact.size));
        document.packages.push(package);
        document.relate(&id, "GENERATED_FROM", IMAGE);
    }
    for (file, sha1, sha256) in with_content {
        let id = self::id("File", &file.path);
        document.relate(IMAGE, "CONTAINS", &id);
        let package = file.package.as_deref().and_then(|name| packages.get(name));
        let input = file.input.as_deref().and_then(|name| inputs.get(name));
        for origin in package.into_iter().chain(input) {
            document.relate(&id, "GENERATED_FROM", origin);
        }
        document.files.push(File {
            spdx_id: id,
            file_name: format!("./{}", file.path),
            checksums: [
                Checksum { algorithm: "SHA1", checksum_value: sha1.into() },
                Checksum::sha256(sha256),
            ],
            license_concluded: NOASSERTION,
            license_info_in_files: [NOASSERTION],
            copyright_text: NOASSERTION,
            comment: file.why.as_deref(),
        });
    }
    let mut text = serde_json::to_string_pretty(&document)
        .map_err(|error| Error::input("SPDX document", error.to_string()))?;
    text.push('\n');
    Ok(text)
}

fn image(manifest: &Manifest, with_content: &[(&FileEntry, &str, &str)]) -> Package {
    let mut package = Package::new(IMAGE, &manifest.name);
    package.version_info.clone_from(&manifest.version);
    package.primary_package_purpose = Some("OPERATING-SYSTEM");
    if !with_content.is_empty() {
        package.files_analyzed = true;
        package.license_info_from_files = vec![NOASSERTION];
        package.package_verification_code = Some(VerificationCode {
            package_verification_code_value: verification_code(
                with_content.iter().map(|(_, sha1, _)| *sha1).collect(),
            ),
        });
    }
    let without = manifest.files.len() - with_content.len();
    let mut comment = manifest.kernel.as_ref().map_or_else(String::new, |kernel| {
        format!("Linux {kernel}, started with {:?}; ", manifest.command_line)
    });
    comment +=
        &format!("{without} directories, links and devices have no content and are not listed");
    package.comment = Some(comment);
    package
}

/// The SHA-1 of the files' SHA-1s in order (section 7.9).
fn verification_code(mut digests: Vec<&str>) -> String {
    digests.sort_unstable();
    let mut hasher = Sha1::new();
    digests.iter().for_each(|digest| hasher.update(digest.as_bytes()));
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn debian_package(id: &str, record: &PackageRecord) -> Package {
    let mut package = Package::new(id, &record.name);
    package.version_info = Some(record.version.clone());
    package.checksums = vec![Checksum::sha256(&record.sha256)];
    package.source_info =
        Some(format!("built from the source package {} {}", record.source, record.source_version));
    match Licence::of(record) {
        Licence::Expression(expression) => package.license_declared = expression.into(),
        Licence::Words(words) => {
            package.license_comments = Some(format!("the package says: {words}"));
        }
        Licence::Unknown => {}
    }
    package.external_refs = vec![ExternalRef {
        reference_category: "PACKAGE-MANAGER",
        reference_type: "purl",
        reference_locator: purl(record),
    }];
    package.comment = Some(record.why.clone());
    package
}

fn input(id: &str, record: &InputRecord) -> Package {
    let mut package = Package::new(id, &record.name);
    package.version_info.clone_from(&record.version);
    package.checksums = vec![Checksum::sha256(&record.sha256)];
    package.comment = Some(record.kind.clone());
    package
}

/// An identifier for people, made unique by a digest of the name: SPDX allows letters, digits, dots
/// and dashes only.
fn id(kind: &str, name: &str) -> String {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '.';
    let shown: String =
        name.chars().map(|c| if is_allowed(c) { c } else { '-' }).take(64).collect();
    let digest = digest::of_bytes(name.as_bytes());
    format!("SPDXRef-{kind}-{shown}-{}", digest.get(..16).unwrap_or_default())
}

fn ids<'a>(kind: &str, names: impl Iterator<Item = &'a String>) -> BTreeMap<&'a str, String> {
    names.map(|name| (name.as_str(), id(kind, name))).collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    spdx_id: &'static str,
    name: &'a str,
    document_namespace: String,
    creation_info: CreationInfo,
    packages: Vec<Package>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<File<'a>>,
    relationships: Vec<Relationship>,
}

impl Document<'_> {
    fn relate(&mut self, from: &str, relationship_type: &'static str, to: &str) {
        self.relationships.push(Relationship {
            spdx_element_id: from.into(),
            relationship_type,
            related_spdx_element: to.into(),
        });
    }
}

#[derive(Serialize)]
struct CreationInfo {
    created: String,
    creators: [String; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    #[serde(rename = "SPDXID")]
    spdx_id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_info: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    package_file_name: Option<String>,
    download_location: &'static str,
    files_analyzed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    package_verification_code: Option<VerificationCode>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<Checksum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_info: Option<String>,
    license_concluded: &'static str,
    license_declared: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    license_comments: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    license_info_from_files: Vec<&'static str>,
    copyright_text: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_refs: Vec<ExternalRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_package_purpose: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

impl Package {
    fn new(id: &str, name: &str) -> Self {
        Self {
            spdx_id: id.into(),
            name: name.into(),
            version_info: None,
            package_file_name: None,
            download_location: NOASSERTION,
            files_analyzed: false,
            package_verification_code: None,
            checksums: Vec::new(),
            source_info: None,
            license_concluded: NOASSERTION,
            license_declared: NOASSERTION.into(),
            license_comments: None,
            license_info_from_files: Vec::new(),
            copyright_text: NOASSERTION,
            external_refs: Vec::new(),
            primary_package_purpose: None,
            comment: None,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VerificationCode {
    package_verification_code_value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: String,
}

impl Checksum {
    fn sha256(digest: &str) -> Self {
        Self { algorithm: "SHA256", checksum_value: digest.into() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    #[serde(rename = "SPDXID")]
    spdx_id: String,
    file_name: String,
    checksums: [Checksum; 2],
    license_concluded: &'static str,
    license_info_in_files: [&'static str; 1],
    copyright_text: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: &'static str,
    related_spdx_element: String,
}
