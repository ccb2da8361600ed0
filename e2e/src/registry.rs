//! A registry of images on the host's loopback, which a guest reaches as 10.0.2.2.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kiln::{Cache, debian};

/// Debian's docker-registry, without TLS and for everybody. It ends with the value.
#[derive(Debug)]
pub struct Registry {
    /// Its port of 127.0.0.1.
    pub port: u16,
    child: Child,
    _directory: tempfile::TempDir,
}

impl Registry {
    /// Starts it, and waits until it takes connections.
    ///
    /// # Errors
    /// When the package cannot be had, or nothing listens within a minute.
    pub fn start() -> Result<Self> {
        let root = debian::sysroot(&Cache::of_workspace(), &["docker-registry"])?;
        let directory = tempfile::tempdir()?;
        // one that was free a moment ago
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = directory.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n",
            directory.path().join("data").display()
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(root.join("usr/bin/docker-registry"));
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("docker-registry")?;
        let registry = Self { port, child, _directory: directory };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                bail!("docker-registry does not listen at port {port}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
