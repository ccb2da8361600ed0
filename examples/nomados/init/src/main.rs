//! What NomadOS runs as process 1: the choices that make it NomadOS. Everything that another system
//! would do the same way is in `kiln-guest`; which services there are beyond its own, Nomad above
//! all, is in the image's `/etc/kiln/services.toml`.

mod config_disk;

use std::process::ExitCode;

use kiln_guest::{Data, Reserve, Shell, System};

#[global_allocator]
static ALLOCATOR: Reserve = Reserve::new();

fn main() -> ExitCode {
    // A service of NomadOS's own, which services.toml lists.
    if std::env::args_os().nth(1).is_some_and(|word| word == "config") {
        return config_disk::run();
    }
    let mut system = System::new("nomados");
    // A partition of this name, or a file system of this label, holds what Nomad keeps.
    system.data = Some(Data::new("nomad-data", "/var/lib/nomad"));
    system.shell = Some(Shell::asked_for_by("nomados.dev"));
    system.run()
}
