//! Images, their layers, and what registries say.

use std::collections::BTreeMap;
use std::io::Write;

use kiln_oci::appc::{self, ImageManifest};
use kiln_oci::{Compression, Difference, Image, Layer, Settings, archive, docker};
use kiln_tree::{Metadata, Node, Tree, TreePath};

use super::{Inputs, Result};

const CONFIG: &str = "{\"architecture\":\"arm\",\"os\":\"linux\",\"variant\":\"v7\",\"config\":{\"Env\":[\"A=b\"],\
    \"Cmd\":[\"/x\"],\"User\":\"0:0\",\"WorkingDir\":\"/\",\"Volumes\":{\"/v\":{}},\"Labels\":{\"a\":\"b\"}},\
    \"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"@0\"]},\"history\":[{\"created\":\"2023-11-14T22:13:20Z\"}]}";
const MANIFEST: &str = "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\
    \"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"@1\",\"size\":#1},\
    \"layers\":[{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"@0\",\"size\":#0}]}";
const INDEX: &str = "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[{\
    \"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"@2\",\"size\":#2,\"platform\":\
    {\"architecture\":\"arm\",\"os\":\"linux\"},\"annotations\":{\"org.opencontainers.image.ref.name\":\"a:1\"}}]}";
const OUTER: &str = "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\
    \"application/vnd.docker.distribution.manifest.list.v2+json\",\"digest\":\"@3\",\"size\":#3}]}";
const DOCKER: &str =
    "[{\"Config\":\"blobs/sha256/~1\",\"RepoTags\":[\"a:1\"],\"Layers\":[\"blobs/sha256/~0\"]}]";

const CHALLENGES: [&str; 4] = [
    "Bearer realm=\"https://auth.example.org/token?x\",service=\"r\",scope=\"repository:a/b:pull,push\"\0{\"token\":\"abc\"}",
    "Basic realm=\"a \\\"b\\\"\", Bearer realm=x , error=\"invalid_token\"\0{\"access_token\":\"a\",\"expires_in\":60}",
    "Negotiate YWJj==, Newauth a = b\0{\"token\":null}",
    "Bearer realm=\"http://127.0.0.1:80@example.org/\"",
];
const NAMES: [&str; 5] = [
    "registry.example.org:5000/team/app:1.0-x",
    "localhost/a@sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
    "app",
    "[::1]:5000/a/b__c:latest",
    "linux/arm/v7",
];

fn tree() -> Result<Tree> {
    let mut tree = Tree::new();
    let mut meta = Metadata::new(0o4755).owned_by(3_000_000, 5).modified_at(1_700_000_000);
    meta.xattrs.insert(b"user.a".to_vec(), vec![0, 10, 255]);
    tree.insert("usr/bin/a", Node::file("content").with(meta))?;
    tree.insert("usr/bin/b", Node::hardlink(TreePath::new("usr/bin/a")?))?;
    tree.insert("lib", Node::symlink("usr/lib"))?;
    tree.insert("dev/null", Node::char_device(1, 3))?;
    tree.insert("n".repeat(120), Node::symlink("t".repeat(120)))?;
    Ok(tree)
}

fn upper() -> Result<Tree> {
    let mut tree = tree()?;
    tree.remove(&TreePath::new("usr/bin/b")?);
    tree.insert("lib64/x", Node::file("x"))?;
    Ok(tree)
}

/// A header of another writer.
fn block(name: &[u8], kind: u8, size: usize, link: &[u8], magic: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"14524770440\0");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..257 + magic.len()].copy_from_slice(magic);
    block
}

fn padded(content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    content.resize(content.len().next_multiple_of(512), 0);
    content
}

/// What GNU, star and old writers do, whiteouts, and links that lead elsewhere.
fn foreign() -> Vec<u8> {
    let gnu = b"ustar  \0";
    let pax = b"ustar\x0000";
    let records = b"19 path=./long/name\n20 SCHILY.xattr.a=b\n20 mtime=1700000000.5\n11 size=3\n";
    let sparse = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n";
    let mut negative = block(b"old", 0, 0, b"", b"");
    negative[136..148].copy_from_slice(&[0xff; 12]);
    let mut large = block(b"numbers", b'0', 0, b"", gnu);
    large[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0, 0x2d, 0xc6, 0xc0]);
    let mut star = block(b"name", b'0', 0, b"", pax);
    star[345..351].copy_from_slice(b"prefix");
    star[508..512].copy_from_slice(b"tar\0");
    [
        block(b"pax_global_header", b'g', 10, b"", pax),
        padded(b"10 a=bcde\n"),
        block(b"././@LongLink", b'L', 9, b"", gnu),
        padded(b"long/one\0"),
        block(b"short", b'0', 3, b"", gnu),
        padded(b"abc"),
        block(b"PaxHeaders/0", b'x', records.len(), b"", pax),
        padded(records),
        block(b"short", b'0', 3, b"", pax),
        padded(b"def"),
        negative,
        large,
        star,
        block(b"a/link", b'2', 0, b"../long", gnu),
        block(b"a/link/below", b'5', 0, b"", gnu),
        block(b"again", b'1', 0, b"/long/name", gnu),
        block(b".wh.bin", b'0', 0, b"", gnu),
        block(b"etc/.wh..wh..opq", b'0', 0, b"", gnu),
        block(b".wh..wh.plnk/1", b'0', 0, b"", gnu),
        block(b"pipe", b'6', 0, b"", gnu),
        block(b"PaxHeaders/1", b'x', sparse.len(), b"", pax),
        padded(sparse),
        block(b"sparse", b'0', 0, b"", pax),
    ]
    .concat()
}

/// An input of the layers' target.
fn pair(flags: u8, lower: &[u8], upper: &[u8]) -> Result<Vec<u8>> {
    Ok([&[flags, u8::try_from(lower.len() / 512)?], lower, upper].concat())
}

/// What a manifest may say, with a list of paths.
const ACI: &str = r#"{"acKind":"ImageManifest","acVersion":"0.8.11","name":"example.com/a",
"labels":[{"name":"arch","value":"amd64"},{"name":"os","value":"linux"}],
"app":{"exec":["/a","-b"],"user":"/usr/bin/a","group":"5","supplementaryGIDs":[4],
"eventHandlers":[{"name":"pre-start","exec":["/x"]}],"workingDirectory":"/usr",
"environment":[{"name":"A","value":"b"}],"mountPoints":[{"name":"d","path":"/d","readOnly":true}],
"ports":[{"name":"p","protocol":"tcp","port":80,"count":2}],
"isolators":[{"name":"resource/memory","value":{"request":"1Mi","limit":"64M"}},
{"name":"resource/cpu","value":{"limit":"0.3"}},
{"name":"os/linux/capabilities-retain-set","value":{"set":["CAP_KILL"]}},
{"name":"os/linux/seccomp-remove-set","value":{"errno":"EPERM","set":["reboot"]}},
{"name":"host/privileged","value":true}]},
"pathWhitelist":["/usr/bin/b","/lib"],"annotations":[{"name":"authors","value":"c"}]}"#;

/// Images of App Containers, compressed in every way.
fn acis() -> Result<Inputs> {
    let small = ImageManifest::parse(
        "seed",
        br#"{"acKind":"ImageManifest","acVersion":"0.8.11","name":"a","dependencies":[{"imageName":"a"}]}"#,
    )?;
    let mut inputs = Vec::new();
    let mut whole = ImageManifest::parse("seed", ACI.as_bytes())?;
    for list in [whole.path_whitelist.clone(), Vec::new()] {
        whole.path_whitelist = list;
        let (archive, _) = appc::write(&whole, &tree()?, Compression::None, Vec::new())?;
        inputs.push([&[0], archive.as_slice()].concat());
    }
    let (archive, _) = appc::write(&small, &Tree::new(), Compression::None, Vec::new())?;
    let (gzip, _) = appc::write(&small, &Tree::new(), Compression::Gzip, Vec::new())?;
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&archive)?;
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0))?;
    xz.write_all(&archive)?;
    for archive in [archive, gzip, bzip2.finish()?, xz.finish()?] {
        inputs.push([&[0], archive.as_slice()].concat());
    }
    Ok(inputs)
}

pub(super) fn all() -> Result<BTreeMap<&'static str, Inputs>> {
    let (below, above) = (tree()?, upper()?);
    let bytes = |layer: &Layer| layer.source.read().map(|bytes| bytes.to_vec());
    let plain = Layer::pack(&below, Compression::None)?;
    let difference = Difference::between(&below, &above)?;
    let changed = Layer::pack_difference(&difference, Compression::None)?;
    let mut layers = Vec::new();
    for flags in [4, 2, 0] {
        layers.push(pair(flags, &bytes(&plain)?, &bytes(&changed)?)?);
        layers.push(pair(flags, &foreign(), &[])?);
    }
    let mut compressed = Vec::new();
    let mut archives: Inputs = Vec::new();
    for compression in [Compression::Gzip, Compression::Zstd] {
        let mut small = Tree::new();
        small.insert("a/b", Node::file("content"))?;
        let layer = Layer::pack(&small, compression)?;
        compressed.push(bytes(&layer)?);
        compressed.push([bytes(&layer)?, bytes(&layer)?].concat());
        let image = Image::build(vec![layer], &Settings::default())?;
        let named = vec!["a:1".to_owned(), "b:2".to_owned()];
        archives.push(archive::write(Vec::new(), &[(Some("a:1"), &image)])?);
        for form in [docker::Form::Legacy, docker::Form::Layout] {
            archives.push(docker::write(Vec::new(), &[(named.clone(), &image)], form)?);
        }
    }
    let archives = archives.into_iter().map(|archive| [&[0], archive.as_slice()].concat());
    let layer = "";
    let documents = [
        [layer, CONFIG, MANIFEST, INDEX].join("\0"),
        [layer, CONFIG, MANIFEST, INDEX, OUTER].join("\0"),
        [layer, CONFIG, DOCKER].join("\0"),
    ];
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    Ok(BTreeMap::from([
        ("oci_aci", acis()?),
        ("oci_archive", archives.collect()),
        ("oci_challenge", texts(&CHALLENGES)),
        ("oci_compressed", compressed),
        ("oci_documents", documents.map(String::into_bytes).to_vec()),
        ("oci_layers", layers),
        ("oci_names", texts(&NAMES)),
    ]))
}
