//! QEMU's machine protocol, as much of it as stopping a machine in order takes
//! (docs/interop/qmp-spec of QEMU: JSON objects, one a line).

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::{Error, Result};

const LONGEST_ANSWER: u64 = 1 << 20;

/// Executes one command without arguments and waits for its answer.
pub(super) fn execute(socket: &Path, command: &str, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    let failed = |reason: String| Error::input(format!("QEMU's monitor ({command})"), reason);
    let stream = UnixStream::connect(socket).map_err(Error::io("connect to", socket))?;
    stream.set_read_timeout(Some(limit)).map_err(Error::io("set a time limit on", socket))?;
    stream.set_write_timeout(Some(limit)).map_err(Error::io("set a time limit on", socket))?;
    let mut writer = stream.try_clone().map_err(Error::io("clone", socket))?;
    let mut reader = BufReader::new(stream.take(LONGEST_ANSWER));
    let mut answers = 0;
    // The greeting is answered by the negotiation, and that by the command.
    for line in ["", "qmp_capabilities", command] {
        if !line.is_empty() {
            let request = serde_json::json!({ "execute": line });
            writeln!(writer, "{request}").map_err(Error::io("write to", socket))?;
        }
        loop {
            if Instant::now() > deadline {
                return Err(failed("it did not answer in time".into()));
            }
            let mut answer = String::new();
            let count = reader.read_line(&mut answer).map_err(Error::io("read from", socket))?;
            if count == 0 {
                // QEMU may end before it answers a command that ends it.
                return if answers == 2 { Ok(()) } else { Err(failed("it hung up".into())) };
            }
            let answer: serde_json::Value =
                serde_json::from_str(&answer).map_err(|error| failed(error.to_string()))?;
            if let Some(error) = answer.get("error") {
                return Err(failed(error.to_string()));
            }
            if answer.get("return").is_some() || answer.get("QMP").is_some() {
                answers += 1;
                break;
            }
        }
    }
    Ok(())
}
