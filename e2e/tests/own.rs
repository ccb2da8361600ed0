//! The README's "Make your own", as it stands there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kiln::cache::workspace_root;
use kiln::manifest::Manifest;
use kiln::qemu::{Forward, Machine};
use kiln::{build, definition, machine};
use kiln_e2e::{copy, get_until};

/// The README's TOML blocks of that section, in order.
fn blocks() -> Result<Vec<String>> {
    let readme = std::fs::read_to_string(workspace_root().join("README.md"))?;
    let section =
        readme.split("## Make your own").nth(1).context("the README has no such section")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("```toml\n").skip(1);
    Ok(blocks.filter_map(|block| Some(block.split("```").next()?.to_owned())).collect())
}

#[test]
fn nomados_with_nginx_serves_a_page_and_is_built_again_from_lock_and_cache() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let own = directory.path().join("my-os");
    copy(&workspace_root().join("examples/nomados"), &own)?;
    let file = own.join("image.toml");
    let blocks = blocks()?;
    let [packages, rest] = blocks.as_slice() else {
        anyhow::bail!("the section has {} blocks of TOML", blocks.len());
    };
    let text = std::fs::read_to_string(&file)?;
    let text = text.replacen("[packages]\n", &format!("[packages]\n{packages}"), 1);
    std::fs::write(&file, format!("{text}\n{rest}"))?;

    let progress = kiln::Progress::on_stderr();
    let definition = definition::Definition::read(&file)?;
    let out = directory.path().join("out");
    build::build(&definition, &build::Options::default(), &out, &progress)?;

    // The page.
    let mut guest = Machine::default();
    guest.forwards = vec![Forward { udp: false, host: 0, guest: 80 }];
    machine::insert(&mut guest, &machine::bootable(&out)?, false, "")?;
    let mut vm = guest.start()?;
    let port = vm.forwarded(80).context("the forwarded port")?;
    let page = get_until(port, "/", Duration::from_secs(300));
    let page = page.with_context(|| format!("the console: {}", vm.console().tail(40)))?;
    ensure!(page == "made by me\n", "the page is {page:?}");
    vm.power_button()?;
    vm.wait_exit(Duration::from_secs(120))?;

    // The same bytes from another directory, with the lock and nothing fetched.
    let elsewhere = directory.path().join("elsewhere");
    copy(&own, &elsewhere)?;
    let again = definition::Definition::read(&elsewhere.join("image.toml"))?;
    let mut how = build::Options::default();
    (how.locked, how.offline) = (true, true);
    let second = directory.path().join("second");
    build::build(&again, &how, &second, &progress)?;
    let (first, second) = (Manifest::read(&out)?, Manifest::read(&second)?);
    ensure!(first == second, "{}", kiln::diff::manifests(&first, &second));
    let nginx = first.files.iter().find(|file| file.path == "usr/sbin/nginx");
    let nginx = nginx.context("nginx is not in the manifest")?;
    ensure!(nginx.package.as_deref() == Some("nginx"), "{nginx:?}");

    // A package that is another than the lock says is refused by its name.
    let lock = std::fs::read_to_string(elsewhere.join("kiln.lock"))?;
    let record = lock.split("[[package]]").find(|record| record.contains("name = \"nginx-light\""));
    let sha256 = record.and_then(|record| record.split("sha256 = \"").nth(1)?.split('"').next());
    let sha256 = sha256.context("nginx-light is not locked")?;
    let cache = directory.path().join("cache");
    std::fs::create_dir(&cache)?;
    copy(&how.cache.root().join("debian"), &cache.join("debian"))?;
    let package = cache.join("debian").join(format!("{sha256}.deb"));
    let mut bytes = std::fs::read(&package)?;
    let middle = bytes.len() / 2;
    bytes.get_mut(middle).map(|byte| *byte ^= 1).context("an empty package")?;
    std::fs::write(&package, bytes)?;
    how.cache = kiln::Cache::at(&cache);
    let third = directory.path().join("third");
    let refused = build::build(&again, &how, &third, &progress).err().context("it was taken")?;
    let refused = refused.to_string();
    ensure!(refused.contains("nginx-light"), "{refused}");
    ensure!(!third.exists(), "something was made of it");
    Ok(())
}
