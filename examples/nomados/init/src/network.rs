//! The network service: DHCP on the first real interface, for as long as the machine runs.

use std::process::ExitCode;
use std::time::Duration;

use kiln_dhcp::linux::{self, Notice, Outcome, RunOptions};

/// How often the console is told that there is no interface.
const PATIENCE: Duration = Duration::from_secs(10);

/// Gets an address and keeps it. Writes a newline to descriptor 3 when the first one is there.
pub(crate) fn keep_configured() -> ExitCode {
    let interface = loop {
        match linux::wait_for_interface(|interface| interface.physical, Some(PATIENCE)) {
            Ok(interface) => break interface,
            Err(error) => eprintln!("network: {error}, still waiting"),
        }
    };
    let mut options = RunOptions::default();
    options.resolv_conf = Some("/etc/resolv.conf".into());
    let mut ready = false;
    let mut notice = |notice: &Notice<'_>| {
        // A first attempt is no news; that there is no answer is.
        if !matches!(notice, Notice::Sent { .. } | Notice::LinkUp) {
            eprintln!("network: {}: {notice}", interface.name);
        }
        if matches!(notice, Notice::Bound(_)) && !ready {
            ready = true;
            // The supervisor reads the other end; if it is gone, nobody waits for the news.
            let _ = std::fs::write("/proc/self/fd/3", "\n");
        }
    };
    match linux::run(&interface.name, &options, &mut notice) {
        Ok(Outcome::Stopped | Outcome::Bound(_)) => ExitCode::SUCCESS,
        Ok(Outcome::TimedOut) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("network: {error}");
            ExitCode::FAILURE
        }
    }
}
