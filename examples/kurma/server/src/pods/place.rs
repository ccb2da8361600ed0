//! Where what of a pod is.

use std::path::{Path, PathBuf};

/// The directories of a pod: one that is kept, and one that is gone with the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    kept: PathBuf,
    runtime: PathBuf,
}

impl Place {
    /// A pod's, by its own two directories.
    pub(crate) fn new(kept: PathBuf, runtime: PathBuf) -> Self {
        Self { kept, runtime }
    }

    pub(crate) fn kept(&self) -> &Path {
        &self.kept
    }

    pub(crate) fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// What the pod is known by, which its directories are called.
    pub(crate) fn uuid(&self) -> String {
        self.runtime.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// What the server knows of it.
    pub(crate) fn record(&self) -> PathBuf {
        self.kept.join("pod.json")
    }

    /// What the stager is told.
    pub(crate) fn orders(&self) -> PathBuf {
        self.kept.join("orders.json")
    }

    /// What the stager has seen.
    pub(crate) fn seen(&self) -> PathBuf {
        self.kept.join("apps.json")
    }

    /// Why there is no stager.
    pub(crate) fn failed(&self) -> PathBuf {
        self.kept.join("failed")
    }

    /// Locked while the stager lives, whose number is in it.
    pub(crate) fn lock(&self) -> PathBuf {
        self.kept.join("lock")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.kept.join("logs")
    }

    pub(crate) fn log(&self, app: &str) -> PathBuf {
        self.logs().join(format!("{app}.log"))
    }

    /// A volume that begins empty.
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.kept.join("volumes").join(name)
    }

    /// A file of the pod's that all of its apps see: `hosts`, `resolv.conf`.
    pub(crate) fn shared(&self, name: &str) -> PathBuf {
        self.kept.join(name)
    }

    /// The directory of an app's container, with its `config.json`.
    pub(crate) fn bundle(&self, app: &str) -> PathBuf {
        self.kept.join("apps").join(app)
    }

    /// Where an app's root is put together.
    pub(crate) fn root(&self, app: &str) -> PathBuf {
        self.bundle(app).join("rootfs")
    }

    /// What an app has written.
    pub(crate) fn written(&self, app: &str) -> PathBuf {
        self.bundle(app).join("upper")
    }

    /// Where overlayfs prepares what it moves there.
    pub(crate) fn work(&self, app: &str) -> PathBuf {
        self.bundle(app).join("work")
    }

    /// What the stager's supervisor is asked at.
    pub(crate) fn socket(&self) -> PathBuf {
        self.runtime.join("control.sock")
    }

    /// What the runtime knows of the containers.
    pub(crate) fn containers(&self) -> PathBuf {
        self.runtime.join("crun")
    }

    /// The pod's network namespace, which apps of no pod are in.
    pub(crate) fn namespace(&self) -> PathBuf {
        self.runtime.join("netns")
    }
}
