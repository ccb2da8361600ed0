//! The kernel of NomadOS from source, up to its configuration; the source's own `conf` is the judge.
//! Built and booted it is by `cargo xtask campaign kernel`.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use kiln::linux::{Configured, Recipe, Source, configure};
use kiln::{Cache, Error, Progress, debian};
use kiln_kconfig::{Cause, Declarations, DotConfig, Value, dropped};

const SOURCE: &str = "linux-source-6.1";
/// Options that something implies although they are hidden.
const IMPLIED: [&str; 2] = ["IMA_SECURE_AND_OR_TRUSTED_BOOT", "STRICT_DEVMEM"];

fn source() -> Result<Source, Error> {
    debian::kernel_source(&Cache::of_workspace(), SOURCE)
}

fn configured(recipe: &Recipe) -> Result<Configured, Error> {
    configure(&Cache::of_workspace(), recipe, &Progress::quiet())
}

#[test]
fn nothing_of_nomados_kernel_is_dropped_and_all_requirements_are_met() -> Result<()> {
    let recipe = nomados::linux::recipe(source()?)?;
    let configured = configured(&recipe)?;
    let config = &configured.config;
    assert_eq!(config.get("MODULES"), Some(Value::NO));
    assert!(config.effective().all(|setting| setting.value != Some(Value::MODULE)));
    assert_eq!(configured.advice, Vec::<String>::new());
    let set_by = |option: &str| configured.provenance[option].set_by.site.to_string();
    assert!(set_by("E1000").starts_with("nomados.config:"), "{}", set_by("E1000"));
    assert!(
        set_by("VIRTIO").starts_with("kernel/configs/kvm_guest.config:"),
        "{}",
        set_by("VIRTIO")
    );
    assert!(set_by("RETPOLINE").starts_with("hardening.config:"), "{}", set_by("RETPOLINE"));
    // What the source's own fragment asks for and x86 does not have.
    let notes = configured.notes.join("\n");
    assert!(notes.contains("CONFIG_S390_GUEST=y"), "{notes}");
    Ok(())
}

#[test]
fn what_the_source_drops_is_told_at_once_with_who_asked_and_why() -> Result<()> {
    let mut recipe = Recipe::new(source()?);
    recipe.requirements = Some(nomados::build::requirements()?);
    let text = "\
CONFIG_BPF_SYSCALL=y
CONFIG_BPF_JIT=y
CONFIG_VIRTIO_NETT=y
# CONFIG_VIRTIO_NETT2 is not set
CONFIG_KERNEL_XZ=y
CONFIG_KERNEL_ZSTD=y
CONFIG_LOG_BUF_SHIFT=77
CONFIG_SMP=m
CONFIG_NET_INGRESS=y
# CONFIG_SYSFB is not set
CONFIG_EXT4_FS=yes
";
    recipe.fragments.push(("wrong.config".into(), text.into()));
    let Err(Error::Plan(problems)) = configured(&recipe) else { anyhow::bail!("it was taken") };
    let about = |what: &str| {
        let found = problems.iter().find(|problem| problem.contains(what));
        found.with_context(|| format!("nothing about {what} in {problems:#?}"))
    };
    let has = |what: &str, parts: &[&str]| -> Result<()> {
        let problem = about(what)?;
        for part in parts {
            assert!(problem.contains(part), "{part:?} is not in {problem}");
        }
        Ok(())
    };
    has(
        "CONFIG_BPF_JIT=y (wrong.config:2)",
        &["not in the result", "depends on MODULES", "kernel/bpf/Kconfig:", "MODULES is n"],
    )?;
    has("CONFIG_VIRTIO_NETT=y (wrong.config:3)", &["no such option", "did you mean VIRTIO_NET"])?;
    has("CONFIG_VIRTIO_NETT2=n (wrong.config:4)", &["no such option"])?;
    has("CONFIG_KERNEL_XZ=y (wrong.config:5)", &["CONFIG_KERNEL_ZSTD is taken", "init/Kconfig:"])?;
    has("CONFIG_LOG_BUF_SHIFT=77 (wrong.config:7)", &["expected 12 to 25"])?;
    has("CONFIG_SMP=m (wrong.config:8)", &["expected y or n"])?;
    has("CONFIG_NET_INGRESS=y (wrong.config:9)", &["has no prompt", "NET_SCH_INGRESS"])?;
    has("wrong.config:11", &["yes"])?;
    // The requirements were checked all the same.
    has("error: CONFIG_E1000 is not as needed", &["VirtualBox"])?;
    Ok(())
}

/// An option that nobody can be asked for is in no `.config` unless something turns it on; one that
/// somebody can is there, if only as "is not set". So what we say of the dependencies of an option
/// that is off is judged by whether the source's own `conf` wrote a line for it.
#[test]
fn dependencies_are_found_unmet_just_where_the_kernels_own_conf_hides_an_option() -> Result<()> {
    let recipe = nomados::linux::recipe(source()?)?;
    let configured = configured(&recipe)?;
    let tree = Declarations::read(&configured.source.path, "x86")?;
    assert!(tree.len() > 10_000, "{} options", tree.len());
    assert_eq!(tree.problems(), []);
    let config = &configured.config;
    let undeclared: Vec<&str> = config
        .effective()
        .map(|setting| setting.name)
        .filter(|name| !tree.contains(name))
        .collect();
    assert_eq!(undeclared, Vec::<&str>::new(), "options that conf knows and we do not");

    let on: BTreeSet<&str> = config
        .effective()
        .filter(|setting| setting.value != Some(Value::NO))
        .map(|setting| setting.name)
        .collect();
    let mut text = String::new();
    for option in tree.options().filter(|option| !on.contains(option)) {
        text.push_str(&format!("CONFIG_{option}=y\n"));
    }
    let asked = DotConfig::parse(text.as_bytes(), "all");
    let (mut hidden, mut shown, mut wrong) = (0, 0, Vec::new());
    for dropped in dropped(&asked, config, &tree) {
        let unmet = dropped.causes.iter().any(|cause| matches!(cause, Cause::Unmet { .. }));
        let no_prompt = dropped.causes.iter().any(|cause| matches!(cause, Cause::NoPrompt { .. }));
        // Text and numbers are no matter of y and n, and what the host's tools said we do not ask.
        let other = |cause: &Cause| matches!(cause, Cause::Type { .. } | Cause::Host { .. });
        if dropped.causes.iter().any(other) {
            continue;
        }
        match &dropped.became {
            None if unmet || no_prompt => hidden += 1,
            Some(_) if !unmet && !no_prompt => shown += 1,
            // `imply` makes conf write a line for an option that it hides (symbol.c,
            // sym_calc_value(): SYMBOL_WRITE where implied is not n).
            Some(_) if IMPLIED.contains(&&*dropped.option) => hidden += 1,
            _ => wrong.push(dropped.to_string()),
        }
    }
    println!("{hidden} options are hidden, {shown} are off, of {} we say otherwise", wrong.len());
    assert_eq!(wrong, Vec::<String>::new());
    assert!(hidden > 5000 && shown > 1000, "{hidden} and {shown}");
    Ok(())
}
