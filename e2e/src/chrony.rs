//! A time server on the host's loopback, which a guest reaches as 10.0.2.2.

use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kiln::{Cache, debian};

/// There is one port 123.
static PORT: Mutex<()> = Mutex::new(());

/// Debian's chronyd, serving the host's own time on 127.0.0.1:123 (which needs root). It ends with the
/// value; until then another test that wants one waits.
///
/// The package is unpacked and not installed: it would take the place of what keeps this machine's
/// clock.
#[derive(Debug)]
pub struct Chrony {
    child: Child,
    _port: MutexGuard<'static, ()>,
    _directory: tempfile::TempDir,
}

impl Chrony {
    /// Starts it, and waits until it answers.
    ///
    /// # Errors
    /// When the package cannot be had, or chronyd does not answer within half a minute.
    pub fn start() -> Result<Self> {
        let port = PORT.lock().unwrap_or_else(PoisonError::into_inner);
        let root = debian::sysroot(&Cache::of_workspace(), &["chrony"])?;
        let chronyd = root.join("usr/sbin/chronyd");
        let directory = tempfile::tempdir()?;
        let path = |name: &str| directory.path().join(name).display().to_string();
        let config = format!(
            "local stratum 8\nallow 127.0.0.0/8\nbindaddress 127.0.0.1\nport 123\ncmdport 0\n\
             bindcmdaddress /\npidfile {}\ndriftfile {}\n",
            path("pid"),
            path("drift"),
        );
        std::fs::write(path("conf"), config)?;
        let mut child = Command::new(chronyd)
            // -x: never touch the clock of this machine. -d: stay, and talk to standard error.
            .args(["-x", "-d", "-u", "root", "-f", &path("conf")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(path("log"))?)
            .spawn()
            .context("start chronyd")?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while !answers()? {
            let ended = child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                let log = std::fs::read_to_string(path("log")).unwrap_or_default();
                bail!("chronyd does not answer on 127.0.0.1:123: {log}");
            }
        }
        Ok(Self { child, _port: port, _directory: directory })
    }
}

/// Whether somebody answers a client's question (mode 3, version 4) as a server (mode 4) that knows
/// the time (stratum 1 to 15).
fn answers() -> Result<bool> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    socket.connect("127.0.0.1:123")?;
    let mut packet = [0_u8; 48];
    packet[0] = 4 << 3 | 3;
    if socket.send(&packet).is_err() {
        return Ok(false);
    }
    let received = socket.recv(&mut packet);
    if received.is_err() {
        // Nobody listens yet, which is told at once.
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(matches!(received, Ok(48)) && packet[0] & 7 == 4 && (1..=15).contains(&packet[1]))
}

impl Drop for Chrony {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
