//! What HashiOS runs as process 1, first of its initramfs and then of the root that this fetches: the choices that make
//! it HashiOS. Everything that another system would do the same way is in `kiln-guest`.

use std::process::ExitCode;
use std::time::Duration;

use kiln_guest::{Data, Reserve, Shell, System};
use kiln_supervisor::pid1::Emergency;

#[global_allocator]
static ALLOCATOR: Reserve = Reserve::new();

/// How long a machine that finds no root waits for somebody to type before it starts again.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

fn main() -> ExitCode {
    let mut system = System::new("hashios");
    // A disk of this name keeps what the engines keep; without one they begin anew at every boot.
    system.data = Some(Data::new("hashios-data", "/var/lib/hashios"));
    system.shell = Some(Shell::asked_for_by("hashios.dev"));
    // Nothing is on a machine without a root that somebody at its console could take.
    system.emergency =
        Emergency::Shell { command: vec!["/bin/sh".into(), "-l".into()], patience: Some(PATIENCE) };
    system.run()
}
