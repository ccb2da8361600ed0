//! An app of a pod in the hands of a runtime.

use kiln_oci::Compression;
use kiln_oci::appc::{
    self, App, Container, Executor, ImageManifest, Isolator, MountPoint, PodApp, PodImage,
    PodManifest, Volume,
};
use kiln_oci::host::Unpack;
use kiln_tree::{Node, Tree};

use super::archives::alone;
use super::manifests::{identifier, name};
use crate::debian::tool;
use crate::peers::run_bundle;

#[test]
fn crun_runs_an_app_of_a_pod() {
    let (Some(crun), Some(busybox)) = (tool("crun"), tool("busybox")) else { return };
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "a container is made by root");
        eprintln!("skipped: crun (not root)");
        return;
    }
    let mut tree = Tree::new();
    let program = std::fs::read(&busybox.program).unwrap();
    tree.insert("bin/busybox", Node::executable(program)).unwrap();
    tree.insert("bin/sh", Node::symlink("busybox")).unwrap();
    tree.insert("etc/passwd", Node::file("web:x:33:34::/srv:\n")).unwrap();
    for directory in ["proc", "dev", "sys", "srv", "data"] {
        tree.insert(directory, Node::directory()).unwrap();
    }
    let script = "/bin/busybox id; /bin/busybox pwd; /bin/busybox cat /data/file; \
                  echo $GREETING $AC_APP_NAME $container; \
                  /bin/busybox grep CapBnd /proc/self/status; \
                  /bin/busybox mkdir /srv/x || echo no; exit 7";
    let mut app = App::new(vec!["/bin/sh".into(), "-c".into(), script.into()]);
    (app.user, app.group) = ("web".into(), "34".into());
    app.supplementary_gids = vec![5];
    app.working_directory = Some("/srv".into());
    app.environment = [("GREETING".to_owned(), "hello".to_owned())].into();
    app.mount_points = vec![MountPoint::new(name("data"), "/data")];
    let mut calls = appc::Seccomp::default();
    (calls.set, calls.errno) = (["mkdir".to_owned()].into(), Some("EPERM".into()));
    app.isolators = vec![
        Isolator::CapabilitiesRetainSet(["CAP_KILL".to_owned()].into()),
        Isolator::SeccompRemoveSet(calls),
        Isolator::NoNewPrivileges(true),
    ];
    let mut manifest = ImageManifest::new(identifier("example.com/web"));
    manifest.app = Some(app);
    let image = appc::pack(&manifest, &tree, Compression::Gzip).unwrap();

    let work = tempfile::tempdir().unwrap();
    let data = work.path().join("shared");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), "from the host\n").unwrap();
    let mut pod = PodManifest::default();
    pod.volumes = vec![Volume::host(name("data"), data.display().to_string())];
    let own = PodApp::new(name("web"), PodImage::of_id(image.id.clone()));
    let mut unpack = Unpack::default();
    unpack.owners = true;
    let root = alone(image).unpack(&work.path().join("rootfs"), &unpack).unwrap();
    let executor = Executor::new(work.path().join("volumes").display().to_string());
    let container = Container::new(&pod, &own, &manifest, &root, &executor).unwrap();
    assert!(container.left.is_empty(), "{:?}", container.left);
    let (_, config) = container.spec().unwrap();
    std::fs::write(work.path().join("config.json"), config).unwrap();

    let output = run_bundle(&crun, work.path());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
    let expected = "uid=33(web) gid=34 groups=5\n/srv\nfrom the host\nhello web kiln\n\
                    CapBnd:\t0000000000000020\nno\n";
    assert_eq!((said.as_str(), output.status.code()), (expected, Some(7)), "{wrong}");
    assert!(wrong.contains("Operation not permitted"), "{wrong}");
}
