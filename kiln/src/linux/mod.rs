//! A kernel built from source: small, with just what an image asks of it.
//!
//! A [`Recipe`] names the [`Source`] and what the configuration is made of: a base that the source
//! makes itself (`allnoconfig`), fragments of the source's own (`kvm_guest.config`), fragments of
//! the image, and the requirements that all of it must meet. [`configure`] takes seconds: it merges,
//! lets the source resolve the dependencies (`make olddefconfig`) and then compares every option
//! that was asked for with what came out. What the source dropped is an error that says who asked,
//! what became of it and why. Only then does [`build`] spend its minutes, once: the kernel is kept
//! under the digest of source, configuration and tools.
//!
//! ```no_run
//! use kiln::linux::{Recipe, Source, build};
//! use kiln::{Cache, Progress, debian};
//!
//! let cache = Cache::of_workspace();
//! let mut recipe = Recipe::new(debian::kernel_source(&cache, "linux-source-6.1")?);
//! let text = "CONFIG_BLK_DEV_INITRD=y\nCONFIG_DEVTMPFS=y\n";
//! recipe.fragments.push(("my.config".into(), text.into()));
//! let kernel = build(&cache, &recipe, &Progress::on_stderr())?;
//! println!("{} is {}", kernel.release, kernel.image.display());
//! # Ok::<(), kiln::Error>(())
//! ```

mod config;
mod make;
mod source;

use std::num::NonZero;
use std::path::Path;

use kiln_kconfig::{DotConfig, Requirements, Value};

pub use config::{Configured, configure};
pub use source::{Source, Unpacked};

use crate::kernel::Kernel;
use crate::{Cache, Error, Progress, Result, digest};
use make::{Make, Toolchain};

/// What a fragment of `kernel/configs` is called that makes a kernel a guest of QEMU's.
pub const KVM_GUEST: &str = "kvm_guest.config";

/// What a configuration begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Base {
    /// `make allnoconfig`: nothing but what cannot be turned off.
    AllNo,
    /// `make defconfig`: what the architecture's maintainers think usual.
    Default,
    /// A configuration of the user's own. What the source drops of it is no error: it may be an older
    /// kernel's.
    File {
        /// Its name in messages.
        name: String,
        /// What it says.
        text: String,
    },
}

/// A kernel to be: x86-64.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Recipe {
    /// Where the source is from.
    pub source: Source,
    /// What the configuration begins with.
    pub base: Base,
    /// Fragments of the source's own, by name, from `kernel/configs` and (of the same name)
    /// `arch/x86/configs`. They are written for several architectures, so what is dropped of them is
    /// only noted.
    pub tree_fragments: Vec<String>,
    /// Fragments, by name and text, the later ones over the earlier ones. Each line is a request.
    pub fragments: Vec<(String, String)>,
    /// What the configuration must meet.
    pub requirements: Option<Requirements>,
    /// How many compilers run at once; as many as there are processors without. It changes nothing
    /// about what they make.
    pub jobs: Option<NonZero<usize>>,
}

impl Recipe {
    /// `allnoconfig` and `kvm_guest.config`, to which fragments can be added.
    #[must_use]
    pub fn new(source: Source) -> Self {
        Self {
            source,
            base: Base::AllNo,
            tree_fragments: vec![KVM_GUEST.to_owned()],
            fragments: Vec::new(),
            requirements: None,
            jobs: None,
        }
    }
}

/// Builds a kernel, unless the cache has it.
///
/// The same recipe gives the same bytes, wherever it is built: user, host, time and version of the
/// build are fixed.
///
/// # Errors
/// Those of [`configure`]; [`Error::MissingTool`], or [`Error::Plan`] when several tools are
/// missing; [`Error::Command`] with the last lines of what `make` printed.
pub fn build(cache: &Cache, recipe: &Recipe, progress: &Progress) -> Result<Kernel> {
    let configured = configure(cache, recipe, progress)?;
    let source = &configured.source;
    let config = configured.config.as_bytes();
    let toolchain = Toolchain::find()?;
    let parts = [source.digest.as_bytes(), config, toolchain.identity.as_bytes()];
    let key = digest::of_parts(parts);
    let name = format!("linux/{}", key.get(..16).unwrap_or(&key));
    let made = cache.get_or_make(name, |made| {
        make::require_for(&configured.config)?;
        let step = progress.step(format!("building Linux from {} (once; minutes)", recipe.source));
        std::fs::create_dir(made).map_err(Error::io("create directory", made))?;
        let objects = made.with_file_name("objects");
        std::fs::create_dir(&objects).map_err(Error::io("create directory", &objects))?;
        write(&objects.join(".config"), config)?;
        let make = Make { source: &source.path, objects: &objects, jobs: recipe.jobs };
        let has_modules = configured.config.get("MODULES") == Some(Value::YES);
        let targets: &[&str] = if has_modules { &["bzImage", "modules"] } else { &["bzImage"] };
        make.run(targets, Some(&step))?;
        install(&make, made, has_modules)?;
        step.done();
        Ok(())
    })?;
    let modules = made.join("modules");
    let release = std::fs::read_dir(&modules)
        .map_err(Error::io("read directory", &modules))?
        .find_map(|entry| entry.ok()?.file_name().into_string().ok())
        .ok_or_else(|| Error::input(modules.display().to_string(), "names no kernel release"))?;
    Ok(Kernel {
        image: made.join("vmlinuz"),
        modules: Some(modules.join(&release)),
        config: made.join("config"),
        release,
        package: recipe.source.to_string(),
    })
}

/// Takes what an image needs out of a finished build.
fn install(make: &Make<'_>, made: &Path, has_modules: bool) -> Result<()> {
    let release = make.objects.join("include/config/kernel.release");
    let release = std::fs::read_to_string(&release).map_err(Error::io("read", &release))?;
    let release = release.trim();
    copy(&make.objects.join("arch/x86/boot/bzImage"), &made.join("vmlinuz"))?;
    copy(&make.objects.join(".config"), &made.join("config"))?;
    copy(&make.objects.join("System.map"), &made.join("System.map"))?;
    let modules = made.join("modules").join(release);
    std::fs::create_dir_all(&modules).map_err(Error::io("create directory", &modules))?;
    if has_modules {
        let installed = make.objects.join("installed");
        let directory = format!("INSTALL_MOD_PATH={}", installed.display());
        // Our own index is made of the modules, so depmod is not needed.
        make.run(&["modules_install", &directory, "INSTALL_MOD_STRIP=1", "DEPMOD=true"], None)?;
        let installed = installed.join("lib/modules").join(release);
        for link in ["build", "source"] {
            match std::fs::remove_file(installed.join(link)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &installed.join(link))(error));
                }
                _ => {}
            }
        }
        std::fs::remove_dir(&modules).map_err(Error::io("remove", &modules))?;
        return std::fs::rename(&installed, &modules).map_err(Error::io("rename into", &modules));
    }
    // What is built in, for those who look a driver up by its name: Nomad does for `bridge`.
    for name in ["modules.builtin", "modules.builtin.modinfo"] {
        let from = make.objects.join(name);
        if from.is_file() {
            copy(&from, &modules.join(name))?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).map(drop).map_err(Error::io("copy", from))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(Error::io("write", path))
}

fn read_config(path: &Path, origin: &str) -> Result<DotConfig> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    Ok(DotConfig::parse(&bytes, origin))
}
