//! What `ros console` and `ros engine` have in common: which there are, which one there is, another one.

use std::fs;
use std::process::Command;

use super::{Failure, Result, config, go_over};
use crate::role::Role;
use crate::schema::Rancher;
use crate::{configuration, stock};

/// Prints all that may be chosen: which one there is, and which one there will be.
pub(crate) fn list(role: Role) -> Result {
    print!("{}", lines(role, &configuration::load().rancher, now(role).as_deref()));
    Ok(())
}

/// What there is, as the system noted it for root.
fn now(role: Role) -> Option<String> {
    fs::read_to_string(role.note()).ok()
}

fn lines(role: Role, rancher: &Rancher, now: Option<&str>) -> String {
    let wanted = role.chosen(rancher);
    let now = now.unwrap_or(wanted);
    let state = |name: &str| match name {
        _ if name == now => "current",
        _ if name == wanted => "enabled",
        _ => "disabled",
    };
    let choices = role.choices(rancher).into_iter();
    choices.map(|(name, _)| format!("{:<8} {name}\n", state(name))).collect()
}

/// Goes over to another one, or, later, has it be there from the next boot on. Its image is at hand before
/// anything changes.
pub(crate) fn choose(role: Role, name: &str, later: bool) -> Result {
    let rancher = configuration::load().rancher;
    let choices = role.choices(&rancher);
    let Some((_, service)) = choices.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = choices.iter().map(|(known, _)| *known).collect();
        return Err(Failure::new(format_args!(
            "{name} is not a valid {}; there are {}",
            role.noun(),
            known.join(", ")
        )));
    };
    if !stock::is_at_hand(&service.image) {
        stock::fetch(&service.image, || Command::new("docker"))
            .map_err(Failure::about(&service.image))?;
    }
    config::change(role.key(), name)?;
    if later { Ok(()) } else { go_over() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_and_what_there_will_be_are_listed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("more.yml");
        let text = "rancher:\n  console: mine\n  services:\n    a:\n      image: a:1\n      labels: \
                    {io.rancher.os.console: mine}\n    b:\n      image: b:1\n      labels: \
                    {io.rancher.os.console: other}\n";
        fs::write(&file, text).unwrap();
        let built_in = concat!(env!("CARGO_MANIFEST_DIR"), "/../etc/os-config.yml");
        let rancher = configuration::load_from(&[built_in.into(), file], "").rancher;
        let said = lines(Role::Console, &rancher, Some("default"));
        assert_eq!(said, "enabled  mine\ndisabled other\ncurrent  default\n");
        let said = lines(Role::Console, &rancher, None);
        assert_eq!(said, "current  mine\ndisabled other\ndisabled default\n");
        assert_eq!(lines(Role::Engine, &rancher, None), "current  docker\n");
    }
}
