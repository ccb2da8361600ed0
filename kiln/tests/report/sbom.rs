//! Bills of materials are what the formats' own validators take, and lead back to the manifest.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use kiln::manifest::Manifest;
use kiln::sbom::{Context, cyclonedx, purl, spdx};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::sample::{any_manifest, file, manifest, package, realistic};

fn small() -> Manifest {
    let mut made =
        manifest(vec![file("etc/<a> b", "abc", 3), crate::sample::link("bin", "usr/bin")]);
    made.packages = vec![package("libstdc++6", "1:12.2~rc1-14")];
    made.packages[0].licence = Some("GPL-3.0-or-later".into());
    made.files[0].package = Some("libstdc++6".into());
    made
}

#[test]
fn a_small_one_as_spdx() {
    let text = spdx(&small(), &Context::default()).unwrap();
    insta::assert_snapshot!(text);
}

#[test]
fn a_small_one_as_cyclonedx() {
    let text = cyclonedx(&small(), &Context::default()).unwrap();
    insta::assert_snapshot!(text);
}

#[test]
fn time_and_namespace_are_the_callers() {
    let mut context = Context::default();
    context.created = 1_709_208_000;
    context.namespace = "https://example.org/boms/".into();
    let text = spdx(&small(), &context).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["creationInfo"]["created"], "2024-02-29T12:00:00Z");
    let namespace = document["documentNamespace"].as_str().unwrap();
    assert!(namespace.starts_with("https://example.org/boms/sample-"), "{namespace}");
    let other: Value =
        serde_json::from_str(&cyclonedx(&small(), &Context::default()).unwrap()).unwrap();
    let mine: Value = serde_json::from_str(&cyclonedx(&small(), &context).unwrap()).unwrap();
    assert_ne!(mine["serialNumber"], other["serialNumber"]);
    assert_eq!(mine["metadata"]["timestamp"], "2024-02-29T12:00:00Z");
}

#[test]
fn a_manifest_that_cannot_be_right_gives_no_document() {
    let mut wrong = small();
    wrong.files[0].sha1 = None;
    for made in [spdx, cyclonedx] {
        let error = made(&wrong, &Context::default()).unwrap_err().to_string();
        assert!(error.contains("needs size, sha256 and sha1"), "{error}");
    }
}

fn texts<'a>(values: &'a Value, key: &str) -> Vec<&'a str> {
    values.as_array().map_or_else(Vec::new, |values| {
        values.iter().filter_map(|value| value[key].as_str()).collect()
    })
}

/// Every component's reference, nested ones included.
fn references<'a>(component: &'a Value, into: &mut Vec<&'a str>) {
    into.extend(component["bom-ref"].as_str());
    component["components"]
        .as_array()
        .into_iter()
        .flatten()
        .for_each(|inner| references(inner, into));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_manifest_gives_documents_whose_identifiers_are_unique_and_lead_somewhere(
        manifest in any_manifest(), created: u64,
    ) {
        let mut context = Context::default();
        context.created = created;
        let text = spdx(&manifest, &context).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        let mut ids = texts(&document["packages"], "SPDXID");
        ids.extend(texts(&document["files"], "SPDXID"));
        ids.push("SPDXRef-DOCUMENT");
        let unique: BTreeSet<&str> = ids.iter().copied().collect();
        prop_assert_eq!(unique.len(), ids.len());
        for id in &ids {
            let rest = id.strip_prefix("SPDXRef-").unwrap();
            prop_assert!(!rest.is_empty());
            prop_assert!(rest.bytes().all(|c| c.is_ascii_alphanumeric() || b".-".contains(&c)));
        }
        for relationship in document["relationships"].as_array().unwrap() {
            for end in ["spdxElementId", "relatedSpdxElement"] {
                prop_assert!(unique.contains(relationship[end].as_str().unwrap()));
            }
        }
        let regular = manifest.files.iter().filter(|file| file.sha1.is_some()).count();
        prop_assert_eq!(texts(&document["files"], "SPDXID").len(), regular);

        let bom: Value = serde_json::from_str(&cyclonedx(&manifest, &context).unwrap()).unwrap();
        let mut ids = Vec::new();
        references(&bom, &mut ids);
        references(&bom["metadata"]["component"], &mut ids);
        let unique: BTreeSet<&str> = ids.iter().copied().collect();
        prop_assert_eq!(unique.len(), ids.len());
        let things = manifest.files.len() + manifest.packages.len() + manifest.inputs.len()
            + manifest.artifacts.len() + 1;
        prop_assert_eq!(ids.len(), things);
        for dependency in bom["dependencies"].as_array().unwrap() {
            prop_assert!(unique.contains(dependency["ref"].as_str().unwrap()));
            for other in dependency["dependsOn"].as_array().into_iter().flatten() {
                prop_assert!(unique.contains(other.as_str().unwrap()));
            }
        }

        // The order in which things were found does not show, and nothing else does.
        let mut other = manifest.clone();
        other.files.reverse();
        other.packages.reverse();
        prop_assert_eq!(spdx(&other, &context).unwrap(), text);
    }
}

/// What the validators are asked by: each argument is a directory with both documents and what
/// they must say.
const VALIDATE: &str = r#"
import hashlib, json, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

def problems(directory):
    with open(directory + '/bom.cdx.json') as opened:
        error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(opened.read())
    if error is not None:
        yield 'cyclonedx: %s' % error
    try:
        document = parse_file(directory + '/bom.spdx.json')
    except Exception as error:
        yield 'spdx: %s' % getattr(error, 'messages', error)
        return
    for message in validate_full_spdx_document(document):
        yield 'spdx: %s' % message.validation_message
    with open(directory + '/expected.json') as opened:
        expected = json.load(opened)
    if len(document.files) != expected['files']:
        yield 'spdx: %d files' % len(document.files)
    purls = {}
    for package in document.packages:
        for reference in package.external_references:
            purl = PackageURL.from_string(reference.locator)
            purls[purl.name] = [purl.type, purl.namespace, purl.version, purl.qualifiers['arch']]
            if purl.to_string() != reference.locator:
                yield 'purl: %s is canonically %s' % (reference.locator, purl.to_string())
    if purls != expected['packages']:
        yield 'purl: %s' % purls
    digests = sorted(sum.value for file in document.files for sum in file.checksums
                     if sum.algorithm.name == 'SHA1')
    code = hashlib.sha1(''.join(digests).encode()).hexdigest()
    for package in document.packages:
        if package.verification_code and package.verification_code.value != code:
            yield 'spdx: verification code is %s' % code

for directory in sys.argv[1:]:
    print(json.dumps(list(problems(directory))))
"#;

/// The validators' directory, filled by pip once per target directory; says why there is none.
fn validators() -> Result<PathBuf, String> {
    const WANTED: [&str; 2] =
        ["spdx-tools==0.8.5", "cyclonedx-python-lib[json-validation]==11.12.0"];
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let place = root.join("sbom-validators-1");
    if place.exists() {
        return Ok(place);
    }
    let beside = tempfile::tempdir_in(root).map_err(|error| error.to_string())?;
    let made = beside.path().join("made");
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"])
        .arg(&made)
        .args(WANTED)
        .output()
        .map_err(|error| format!("python3 ({error})"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{} by pip ({})", WANTED.join(" and "), said.trim()));
    }
    match std::fs::rename(&made, &place) {
        Err(error) if !place.exists() => Err(error.to_string()),
        _ => Ok(place),
    }
}

/// Writes a manifest's documents, changed by `change`, where the script looks for them.
fn write(
    directory: &Path,
    manifest: &Manifest,
    change: impl Fn(&mut Value, &mut Value),
) -> PathBuf {
    std::fs::create_dir(directory).unwrap();
    let context = Context::default();
    let mut of_spdx = serde_json::from_str(&spdx(manifest, &context).unwrap()).unwrap();
    let mut of_cyclonedx = serde_json::from_str(&cyclonedx(manifest, &context).unwrap()).unwrap();
    change(&mut of_spdx, &mut of_cyclonedx);
    let packages: serde_json::Map<String, Value> = manifest
        .packages
        .iter()
        .map(|it| (it.name.clone(), json!(["deb", "debian", it.version, it.architecture])))
        .collect();
    let files = manifest.files.iter().filter(|file| file.sha1.is_some()).count();
    let expected = json!({ "packages": packages, "files": files });
    for (name, value) in
        [("bom.spdx.json", of_spdx), ("bom.cdx.json", of_cyclonedx), ("expected.json", expected)]
    {
        std::fs::write(directory.join(name), value.to_string()).unwrap();
    }
    directory.to_path_buf()
}

#[test]
fn the_formats_own_validators_take_them() {
    let place = match validators() {
        Ok(place) => place,
        Err(missing) => {
            println!("skipped: {missing}");
            assert!(std::env::var_os("CI").is_none(), "missing in CI: {missing}");
            return;
        }
    };
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let nothing = |_: &mut Value, _: &mut Value| {};
    let good = [
        write(&at("realistic"), &realistic(), nothing),
        write(&at("small"), &small(), nothing),
        write(&at("empty"), &manifest(Vec::new()), nothing),
    ];
    // A validator that takes anything would say nothing: each of these must be refused.
    let bad = [
        write(&at("no sha1"), &small(), |spdx, bom| {
            spdx["files"][0]["checksums"].as_array_mut().unwrap().remove(0);
            bom["components"][0]["type"] = "thing".into();
        }),
        write(&at("dangling"), &small(), |spdx, bom| {
            spdx["relationships"][0]["relatedSpdxElement"] = "SPDXRef-Nowhere".into();
            bom["components"][0]["hashes"][0]["content"] = "xyz".into();
        }),
        write(&at("other files"), &small(), |spdx, bom| {
            let code = "0".repeat(40);
            spdx["packages"][0]["packageVerificationCode"]["packageVerificationCodeValue"] =
                code.into();
            bom["surprise"] = 1.into();
        }),
    ];
    let output = Command::new("python3")
        .args(["-c", VALIDATE])
        .args(good.iter().chain(&bad))
        .env("PYTHONPATH", &place)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Vec<Vec<String>> =
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(said.len(), good.len() + bad.len());
    for (directory, problems) in good.iter().zip(&said) {
        assert!(problems.is_empty(), "{}: {problems:#?}", directory.display());
    }
    for (directory, problems) in bad.iter().zip(&said[good.len()..]) {
        for format in ["spdx:", "cyclonedx:"] {
            let refused = problems.iter().any(|problem| problem.starts_with(format));
            assert!(refused, "{} was taken: {problems:?}", directory.display());
        }
    }
}

#[test]
fn purls_name_version_and_architecture() {
    let package = package("g++-12", "1:12.2.0-14~a+b");
    assert_eq!(purl(&package), "pkg:deb/debian/g%2B%2B-12@1:12.2.0-14~a%2Bb?arch=amd64");
}
