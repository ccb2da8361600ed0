//! Where a system that is laid down comes from: the CD, an archive of the installer's image, or a registry,
//! from which the engine has it run its own `lay-down-os`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use kiln_guest::containers::Images;
use kiln_supervisor::pid1::block;

use super::{Failure, Result};
use crate::laydown::{self, Options, Type};
use crate::places;

#[derive(Debug, Clone, Args)]
pub(crate) struct From {
    /// The installer's image: a name that the engine pulls, or a file of `docker save`. The CD without
    #[arg(short, long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
}

/// Lays a system down, and prints what was done.
pub(crate) fn lay_down(from: &From, kind: Type, options: &Options) -> Result {
    let done = match &from.image {
        None => of_cd(kind, options)?,
        Some(image) if Path::new(image).is_file() => of_archive(Path::new(image), kind, options)?,
        Some(image) => return by_engine(image, kind, options),
    };
    println!("{done}");
    Ok(())
}

fn of_cd(kind: Type, options: &Options) -> Result<String> {
    let Some(found) = block::find_labelled(places::CD) else {
        return Err(Failure::new(
            "there is no CD of this system; --image names an installer's image",
        ));
    };
    let place = Path::new(places::NOW).join("cd");
    let lay = |directory: &Path| laydown::lay_down(directory, kind, options);
    block::look_into(&found, &place, lay).map_err(Failure::new)
}

fn of_archive(archive: &Path, kind: Type, options: &Options) -> Result<String> {
    let place = PathBuf::from(places::CARRIED);
    let unpacked = Images::open(archive, &place).and_then(|images| images.single());
    let done = unpacked.and_then(|unpacked| {
        let dist = places::DIST.trim_start_matches('/');
        laydown::lay_down(&unpacked.root.join(dist), kind, options)
    });
    // it is as large as the system
    let _ = std::fs::remove_dir_all(&place);
    done.map_err(Failure::new)
}

/// The new system's own installer knows best how it is installed.
fn by_engine(image: &str, kind: Type, options: &Options) -> Result {
    let mut docker = Command::new("docker");
    docker.args(["run", "--rm", "--interactive", "--privileged", "--network=none", "--pid=host"]);
    docker.args(["--volume=/dev:/dev", image, "--install-type"]);
    docker.arg(match kind {
        Type::Generic => "generic",
        Type::Gpt => "gpt",
        Type::Upgrade => "upgrade",
    });
    if let Some(device) = &options.device {
        docker.arg("--device").arg(device);
    }
    if let Some(words) = &options.append {
        docker.args(["--append", words]);
    }
    if options.force {
        docker.arg("--force");
    }
    // The engine does not see what is in the console: the file is read here.
    let input = match &options.cloud_config {
        None => Stdio::null(),
        Some(path) => {
            docker.args(["--cloud-config", "-"]);
            match path.as_os_str() == "-" {
                true => Stdio::inherit(),
                false => {
                    let file = std::fs::File::open(path);
                    file.map_err(Failure::about(&path.display().to_string()))?.into()
                }
            }
        }
    };
    succeed("docker run", docker.stdin(input))
}

/// Has the engine pull an image.
pub(crate) fn pull(image: &str) -> Result {
    succeed("docker pull", Command::new("docker").args(["pull", image]).stdin(Stdio::null()))
}

fn succeed(what: &str, command: &mut Command) -> Result {
    let status = command.status().map_err(Failure::about(what))?;
    if status.success() { Ok(()) } else { Err(Failure::new(format_args!("{what}: {status}"))) }
}
