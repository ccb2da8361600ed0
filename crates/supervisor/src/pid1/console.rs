//! Descriptors 0 to 2, and a shell for people.

use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use crate::backoff::BackoffPolicy;
use crate::spec::{Log, ServiceSpec, Signal};

/// Opens `/dev/console` as standard input, output and error, or `/dev/null` where there is no
/// console. Returns which.
///
/// # Errors
/// Neither can be opened; what is open stays as it is.
pub fn open() -> std::io::Result<&'static str> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut last = rustix::io::Errno::NOENT;
    for path in ["/dev/console", "/dev/null"] {
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => {
                rustix::stdio::dup2_stdin(&fd)?;
                rustix::stdio::dup2_stdout(&fd)?;
                rustix::stdio::dup2_stderr(&fd)?;
                return Ok(path);
            }
            Err(error) => last = error,
        }
    }
    Err(last.into())
}

/// The terminal behind `/dev/console`, which itself cannot be a controlling terminal: the last one
/// of `/sys/class/tty/console/active`.
#[must_use]
pub fn terminal() -> PathBuf {
    let active = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let device = active.split_whitespace().last().map(|name| PathBuf::from("/dev").join(name));
    device.filter(|path| path.exists()).unwrap_or_else(|| "/dev/console".into())
}

/// A shell on the console, with job control, started again when it ends.
#[must_use]
pub fn shell<S: Into<String>>(command: impl IntoIterator<Item = S>) -> ServiceSpec {
    let mut spec = ServiceSpec::daemon("console", command);
    spec.tty = Some(terminal());
    spec.log = Log::Inherit;
    // an interactive shell ignores SIGTERM
    spec.stop_signal = Signal::HUP;
    spec.stop_timeout = std::time::Duration::from_secs(2);
    spec.backoff = BackoffPolicy { max: std::time::Duration::from_secs(2), ..spec.backoff };
    spec
}
