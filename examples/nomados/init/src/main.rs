//! What NomadOS runs as process 1: the choices that make it NomadOS. Everything that another system
//! would do the same way is in `kiln-guest`; which services there are beyond its own, Nomad above
//! all, is in the image's `/etc/kiln/services.toml`.

use std::process::ExitCode;

use kiln_guest::{Data, Shell, System};

fn main() -> ExitCode {
    let mut system = System::new("nomados");
    // A partition of this name, or a file system of this label, holds what Nomad keeps.
    system.data = Some(Data::new("nomad-data", "/var/lib/nomad"));
    system.shell = Some(Shell::asked_for_by("nomados.dev"));
    system.run()
}
