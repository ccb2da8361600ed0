//! What cannot be of services that are containers.

use std::collections::BTreeSet;

use super::Problem;
use crate::spec::{Kill, ServiceSpec};

/// What a service that is a container cannot have.
pub(super) fn check(spec: &ServiceSpec, refuse: &mut impl FnMut(&'static str)) {
    let Some(container) = &spec.container else { return };
    let bad = |text: &[u8]| text.is_empty() || text.contains(&0);
    let paths = [&container.program, &container.state_dir];
    let mut paths = paths.into_iter().flatten().chain([&container.bundle]);
    if paths.any(|path| bad(path.as_os_str().as_encoded_bytes())) {
        refuse("a path of its container is empty or has a NUL byte");
    }
    // What crun and runc take.
    let known = |b: u8| b.is_ascii_alphanumeric() || b"_+-.".contains(&b);
    if container
        .id
        .as_ref()
        .is_some_and(|id| id.is_empty() || id.starts_with(['-', '.']) || !id.bytes().all(known))
    {
        refuse("its container's id has other characters than letters, digits and \"_+-.\"");
    }
    if !spec.command.is_empty() {
        refuse("it is a container, whose command is in its bundle, and has a command as well");
    }
    if spec.kill != Kill::ControlGroup {
        refuse("a container's processes are in no group but its control group (kill)");
    }
    if spec.tty.is_some() {
        refuse("a container has no terminal (tty)");
    }
    if spec.fd_store > 0 {
        refuse("a container is not given descriptors that were kept (fd-store)");
    }
}

/// Two services would delete each other's containers if these had one name.
pub(super) fn check_names(specs: &[&ServiceSpec], tell: &mut impl FnMut(usize, Problem)) {
    let mut known = BTreeSet::new();
    for (index, spec) in specs.iter().enumerate() {
        let Some(container) = &spec.container else { continue };
        let place = (container.runtime.as_str(), &container.state_dir, container.name_for(spec));
        if !known.insert(place) {
            let what = "its container has the id of another service's";
            tell(index, Problem::Senseless { name: spec.name.clone(), what });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Container, Graph, Readiness, Signal};

    #[test]
    fn what_a_container_cannot_have_is_refused() {
        let mut good = ServiceSpec { name: "c".into(), ..ServiceSpec::default() };
        good.container = Some(Container::new("/b").into());
        good.readiness = Readiness::NotifyFd(3);
        good.stop_signal = Signal::QUIT;
        assert!(Graph::new(std::slice::from_ref(&good)).is_ok());
        good.readiness = Readiness::SdNotify;
        assert!(Graph::new(std::slice::from_ref(&good)).is_ok());
        let complaint = |change: &dyn Fn(&mut ServiceSpec, &mut Container)| {
            let (mut spec, mut container) = (good.clone(), Container::new("/b"));
            change(&mut spec, &mut container);
            spec.container = Some(container.into());
            Graph::new(&[spec]).unwrap_err().to_string()
        };
        let found = [
            complaint(&|spec, _| spec.command = vec!["/x".into()]),
            complaint(&|spec, _| spec.kill = Kill::ProcessGroup),
            complaint(&|spec, _| spec.tty = Some("/dev/tty1".into())),
            complaint(&|spec, _| spec.fd_store = 1),
            complaint(&|_, container| container.bundle = "".into()),
            complaint(&|_, container| container.program = Some("a\0".into())),
            complaint(&|_, container| container.id = Some("a@b".into())),
            complaint(&|_, container| container.id = Some("--all".into())),
        ];
        let words = [
            "has a command as well",
            "but its control group (kill)",
            "no terminal (tty)",
            "descriptors that were kept",
            "a path of its container",
            "a path of its container",
            "container's id",
            "container's id",
        ];
        for (complaint, words) in found.iter().zip(words) {
            let begins = complaint.starts_with("service c: ");
            assert!(begins && complaint.contains(words), "{complaint}, not {words}");
        }
    }

    #[test]
    fn two_containers_of_one_name_are_refused() {
        let service = |name: &str, id: Option<&str>| {
            let container = Container { id: id.map(Into::into), ..Container::new("/b") };
            let container = Some(container.into());
            ServiceSpec { name: name.into(), container, ..ServiceSpec::default() }
        };
        let complaint = |specs: &[ServiceSpec]| Graph::new(specs).err().map(|all| all.to_string());
        assert_eq!(complaint(&[service("a", None), service("b", None)]), None);
        let expected = "service b: its container has the id of another service's";
        assert_eq!(
            complaint(&[service("a@1", None), service("b", Some("a+1"))]).as_deref(),
            Some(expected)
        );
    }
}
