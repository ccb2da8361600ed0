//! A kernel looked at before it goes into an image: whether it can do what is asked of it, and
//! which of its modules go with it.

use std::io::Read;
use std::path::{Path, PathBuf};

use kiln_kconfig::{DotConfig, Requirements, Value};
use kiln_kmod::Index;
use kiln_tree::{Node, Tree, host};

use crate::{Cache, Error, Result, digest};

/// A kernel and what belongs to it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Kernel {
    /// The bootable image.
    pub image: PathBuf,
    /// `lib/modules/RELEASE`; nothing for a kernel of the user's own that needs none.
    pub modules: Option<PathBuf>,
    /// Its configuration.
    pub config: PathBuf,
    /// Its release, as `uname -r` says it.
    pub release: String,
    /// The package it is from, or the source that it was built from.
    pub package: String,
}

/// A kernel of the user's own; without modules when everything that it needs is built in.
///
/// # Errors
/// [`Error::Io`]; [`Error::Input`] when no configuration is given and none is beside the kernel, or
/// when its release is nowhere to be seen.
pub fn from_files(image: &Path, modules: Option<&Path>, config: Option<&Path>) -> Result<Kernel> {
    std::fs::metadata(image).map_err(Error::io("read", image))?;
    let release = match modules {
        Some(modules) => {
            std::fs::read_dir(modules).map_err(Error::io("read directory", modules))?;
            let release = modules.file_name().map(|name| name.to_string_lossy().into_owned());
            release.ok_or_else(|| {
                let reason = "its last component must be the kernel's release";
                Error::input(modules.display().to_string(), reason)
            })?
        }
        None => release_of(image)?,
    };
    let beside = || {
        let directory = image.parent().unwrap_or_else(|| Path::new("."));
        [format!("config-{release}"), ".config".into(), "config".into()]
            .into_iter()
            .map(|name| directory.join(name))
            .chain(modules.map(|modules| modules.join("config")))
            .find(|path| path.is_file())
    };
    let config = config.map(PathBuf::from).or_else(beside).ok_or_else(|| {
        Error::input(
            image.display().to_string(),
            format!("its configuration is not beside it as config-{release}; give --kernel-config"),
        )
    })?;
    let (image, modules) = (image.to_path_buf(), modules.map(PathBuf::from));
    Ok(Kernel { image, modules, config, release, package: String::new() })
}

/// The release that an x86 kernel image says in its header (Linux's
/// `Documentation/x86/boot.rst`, field `kernel_version`: what `uname -rv` will say).
fn release_of(image: &Path) -> Result<String> {
    let mut start = Vec::new();
    let file = std::fs::File::open(image).map_err(Error::io("open", image))?;
    file.take(0x1_0200).read_to_end(&mut start).map_err(Error::io("read", image))?;
    let version = || {
        if start.get(0x202..0x206)? != b"HdrS" {
            return None;
        }
        let at = u16::from_le_bytes(start.get(0x20e..0x210)?.try_into().ok()?);
        let text = start.get(usize::from(at) + 0x200..)?;
        let end = text.iter().take(256).position(|byte| matches!(byte, b' ' | 0))?;
        let word = std::str::from_utf8(text.get(..end)?).ok()?;
        // It becomes a directory's name.
        let plain = |c: char| c.is_ascii_alphanumeric() || "+-._~".contains(c);
        (word.starts_with(|c: char| c.is_ascii_digit()) && word.chars().all(plain))
            .then(|| word.to_owned())
    };
    version().ok_or_else(|| {
        let reason = "it is no x86 kernel image that says its release; give --modules, whose last \
                      component is the release";
        Error::input(image.display().to_string(), reason)
    })
}

/// A kernel among the unpacked files of a package.
///
/// # Errors
/// [`Error::Input`] when there is none.
pub fn in_root(root: &Path, package: &str) -> Result<Kernel> {
    let boot = root.join("boot");
    let names = std::fs::read_dir(&boot).into_iter().flatten().flatten();
    let release = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .find_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned))
        .ok_or_else(|| {
            Error::input(format!("Debian package {package}"), "it holds no /boot/vmlinuz-*")
        })?;
    Ok(Kernel {
        image: boot.join(format!("vmlinuz-{release}")),
        modules: Some(root.join("usr/lib/modules").join(&release)),
        config: boot.join(format!("config-{release}")),
        release,
        package: package.to_owned(),
    })
}

/// What a kernel's configuration says about a set of requirements.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Checked {
    /// What the image could not do without and the kernel does not have, each in a sentence.
    pub problems: Vec<String>,
    /// What it would be better with, each in a sentence.
    pub advice: Vec<String>,
    /// The modules that must be in the image for the met requirements to be true in it, with the
    /// reason.
    pub modules: Vec<(String, String)>,
}

/// Checks a kernel's configuration.
///
/// # Errors
/// When it cannot be read.
pub fn check(kernel: &Kernel, requirements: &Requirements) -> Result<Checked> {
    let config = DotConfig::read(&kernel.config)?;
    let report = requirements.check(&config);
    let sentences = |findings: &mut dyn Iterator<Item = &kiln_kconfig::Finding>| {
        findings.map(|finding| format!("kernel {}: {finding}", kernel.release)).collect()
    };
    let modules = report.modules().iter();
    Ok(Checked {
        problems: sentences(&mut report.missing()),
        advice: sentences(&mut report.recommended()),
        modules: modules
            .filter_map(|wanted| Some((wanted.module.clone()?, wanted.reason.clone())))
            .collect(),
    })
}

/// Puts the wanted modules, what they depend on and an index of just these into a tree. Gives what
/// the kernel does not have, each in a sentence.
///
/// # Errors
/// When the modules cannot be read.
pub fn add_modules(
    tree: &mut Tree,
    kernel: &Kernel,
    wanted: &[(String, String)],
    cache: &Cache,
) -> Result<Vec<String>> {
    let names: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
    let index = index(kernel, cache)?;
    let decompresses =
        DotConfig::read(&kernel.config)?.get("MODULE_DECOMPRESS") == Some(Value::YES);
    let resolution = index.resolve(&names);
    let mut problems: Vec<String> = resolution
        .unknown
        .iter()
        .map(|name| match &kernel.modules {
            Some(_) => format!("kernel {}: it has no module {name}", kernel.release),
            None => format!(
                "kernel {}: {name} is a module, and none were given (--modules)",
                kernel.release
            ),
        })
        .collect();
    let directory = format!("usr/lib/modules/{}", kernel.release);
    for module in &resolution.load {
        let plain = Path::new(&module.path).extension().is_some_and(|extension| extension == "ko");
        if !plain && !decompresses {
            problems.push(format!(
                "kernel {}: {} is compressed, and the kernel cannot decompress modules \
                 (CONFIG_MODULE_DECOMPRESS is not set); decompress them first",
                kernel.release, module.path
            ));
            continue;
        }
        let Some(modules) = &kernel.modules else { continue };
        let node = host::file(&modules.join(&module.path), 0o644)?;
        // Requirements spell modules as their files, the index as the kernel does.
        let same = |name: &str| name.replace('-', "_") == module.name;
        let why = match wanted.iter().find(|(name, _)| same(name)) {
            Some((_, reason)) => format!("kernel module: {reason}"),
            None => format!("kernel module, {}", module.reason),
        };
        tree.insert(format!("{directory}/{}", module.path), node.because(why))?;
    }
    for (name, bytes) in index.subset(&names).files() {
        let node = Node::file(bytes).because("index of the image's kernel modules");
        tree.insert(format!("{directory}/{name}"), node)?;
    }
    Ok(problems)
}

/// The index of a kernel's modules: the one beside them, as an installed kernel has it, or one made
/// of the modules themselves, as they come in a package. The latter is kept.
fn index(kernel: &Kernel, cache: &Cache) -> Result<Index> {
    let Some(modules) = &kernel.modules else { return Ok(Index::default()) };
    if modules.join("modules.dep").is_file() {
        return Ok(Index::read_dir(modules)?);
    }
    // Packages are unpacked to a path that names their content; other directories may change.
    if !modules.starts_with(cache.root()) {
        return Ok(Index::scan(modules)?);
    }
    let key = digest::of_bytes(modules.as_os_str().as_encoded_bytes());
    let kept = cache.get_or_make(format!("modules/{key}"), |made| {
        std::fs::create_dir(made).map_err(Error::io("create directory", made))?;
        for (name, bytes) in Index::scan(modules)?.files() {
            let path = made.join(name);
            std::fs::write(&path, bytes).map_err(Error::io("write", &path))?;
        }
        Ok(())
    })?;
    Ok(Index::read_dir(&kept)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel image as far as its header: the magic, and where the version stands.
    fn image(version: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 0x400];
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        bytes[0x20e..0x210].copy_from_slice(&0x180_u16.to_le_bytes());
        bytes.truncate(0x380);
        bytes.extend_from_slice(version);
        bytes
    }

    #[test]
    fn the_release_is_read_from_the_image_where_there_are_no_modules() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vmlinuz");
        std::fs::write(directory.path().join("config-6.1.2-x"), "CONFIG_64BIT=y\n").unwrap();
        std::fs::write(&path, image(b"6.1.2-x (kiln@kiln) #1\0")).unwrap();
        let kernel = from_files(&path, None, None).unwrap();
        assert_eq!((kernel.release.as_str(), &kernel.modules), ("6.1.2-x", &None));
        assert!(kernel.config.ends_with("config-6.1.2-x"));
        for wrong in [&b"../../etc x"[..], b"6.1/../../x y", b"", b"6.1.2-never-ends"] {
            std::fs::write(&path, image(wrong)).unwrap();
            let error = from_files(&path, None, None).unwrap_err().to_string();
            assert!(error.contains("--modules"), "{error}");
        }
    }
}
