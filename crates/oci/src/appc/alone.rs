//! An image that is run without a pod, as images of the OCI are.

use kiln_tree::Tree;
use oci_spec::image::{Config, ImageConfiguration};

use super::app::App;
use super::container::{Container, enforce, identity, variables};
use super::image::ImageManifest;
use super::isolator::Isolator;
use crate::bundle::{self, Capabilities, Identity, Users};
use crate::{Error, Result};

impl Container {
    /// An image alone, with what its user wishes besides, as [`bundle::spec`] has it for images of the
    /// OCI: what `options` say counts, and where they leave something as it is by default, the image's
    /// isolators do. No image is given more than the options allow: of the capabilities that one retains
    /// it has those that are usual. What of the isolators does not count is in `left`.
    ///
    /// # Errors
    /// [`Error::Manifest`] for an owner of a file that is not in the root and limits that no kernel takes;
    /// [`Error::Invalid`] for a user of the options that is not there.
    pub fn alone(image: &ImageManifest, root: &Tree, options: &bundle::Options) -> Result<Self> {
        let nothing = App::new(Vec::new());
        let what = image.app.as_ref().unwrap_or(&nothing);
        let mut problems = Vec::new();
        let identity = match &options.user {
            Some(user) => Users::of_tree(root)?.identity(user)?,
            None => identity(what, root)?.unwrap_or_else(|problem| {
                problems.push(problem);
                Identity::default()
            }),
        };
        let mut own = bundle::Options::default();
        let left = what
            .isolators
            .iter()
            .filter(|isolator| {
                !is_free(isolator, options) || !enforce(isolator, &mut own, &mut problems)
            })
            .cloned()
            .collect();
        if !problems.is_empty() {
            return Err(Error::Manifest { origin: image.name.to_string(), problems });
        }
        let mut options = options.clone();
        let (resources, limits) = (&mut options.resources, own.resources);
        resources.memory = resources.memory.or(limits.memory);
        resources.memory_reservation = resources.memory_reservation.or(limits.memory_reservation);
        if resources.cpu_quota.is_none() {
            (resources.cpu_quota, resources.cpu_period) = (limits.cpu_quota, limits.cpu_period);
        }
        resources.cpu_shares = resources.cpu_shares.or(limits.cpu_shares);
        options.oom_score_adj = options.oom_score_adj.or(own.oom_score_adj);
        options.seccomp = options.seccomp.or(own.seccomp);
        if what.isolators.contains(&Isolator::NoNewPrivileges(true)) {
            options.new_privileges = false;
        }
        if options.capabilities == Capabilities::default() {
            options.capabilities = match own.capabilities {
                Capabilities::Only(names) => {
                    Capabilities::usual_without(|name| !names.iter().any(|own| own == name))
                }
                other => other,
            };
        }
        let mut run = Config::default();
        // Arguments can be replaced, as those of the other format.
        if let Some((program, arguments)) = what.exec.split_first() {
            run.set_entrypoint(Some(vec![program.clone()]));
            run.set_cmd(Some(arguments.to_vec()));
        }
        run.set_env(Some(variables(what)));
        run.set_working_dir(what.working_directory.clone());
        let mut config = ImageConfiguration::default();
        config.set_config(Some(run));
        let (pre_start, post_stop) = (what.pre_start.clone(), what.post_stop.clone());
        Ok(Self { config, identity, options, left, pre_start, post_stop })
    }
}

/// Whether an isolator of an image alone counts: whoever runs it has said nothing of the same, and it asks
/// for nothing that others would have to do without.
fn is_free(isolator: &Isolator, options: &bundle::Options) -> bool {
    let resources = &options.resources;
    match isolator {
        Isolator::Memory(_) => resources.memory.is_none() && resources.memory_reservation.is_none(),
        Isolator::Cpu(_) => resources.cpu_quota.is_none() && resources.cpu_shares.is_none(),
        Isolator::CpuShares(_) => resources.cpu_shares.is_none(),
        Isolator::OomScoreAdj(score) => options.oom_score_adj.is_none() && *score >= 0,
        Isolator::SeccompRetainSet(_) | Isolator::SeccompRemoveSet(_) => options.seccomp.is_none(),
        Isolator::CapabilitiesRetainSet(_) | Isolator::CapabilitiesRemoveSet(_) => {
            !options.privileged && options.capabilities == Capabilities::default()
        }
        _ => true,
    }
}
