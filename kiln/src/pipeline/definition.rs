//! Steps that build images from definitions.

use std::collections::BTreeSet;

use super::Step;
use crate::build::packages;
use crate::definition::{
    Content, Definition, Files, InitSource, KernelSource, PartitionContent, SecureBoot,
};
use crate::{Result, build, guest};

impl Step {
    /// The same, which builds an image of a definition: it reads the definition and all files that it
    /// names, and the sources of programs that are built for it. `given` are the inputs that come from
    /// elsewhere, from other steps say.
    ///
    /// # Errors
    /// For a base that is no definition, and a program that the workspace does not have.
    pub fn builds(self, definition: &Definition, given: &[&str]) -> Result<Self> {
        self.of(definition, given, &mut BTreeSet::new())
    }

    /// The same, which builds a program of the workspace with these features, statically.
    ///
    /// # Errors
    /// As [`guest::sources`].
    pub fn compiles(self, package: &str, features: &[&str]) -> Result<Self> {
        let step = self.depends_on("compiler", guest::compiler()?);
        Ok(guest::sources(package, features)?.into_iter().fold(step, Self::reads))
    }

    fn of(
        mut self,
        definition: &Definition,
        given: &[&str],
        known: &mut BTreeSet<std::path::PathBuf>,
    ) -> Result<Self> {
        if !known.insert(definition.file.clone()) {
            return Ok(self);
        }
        let path = |path: &std::path::Path| definition.host_path(path);
        self = self.reads(&definition.file).keeps(packages::lock_file(&definition.file));
        let mut paths = Vec::new();
        let mut others = Vec::new();
        let mut programs = Vec::new();
        paths.extend(definition.debian.keyring.iter().map(|it| path(it)));
        for (name, input) in &definition.inputs {
            if given.contains(&name.as_str()) {
                continue;
            }
            paths.extend(input.file.iter().map(|it| path(it)));
            others.extend(input.images.iter().map(|it| path(it)));
            programs.extend(
                input.cargo.iter().map(|it| (it.package.value.clone(), it.features.clone())),
            );
            for (variable, value) in input
                .variable
                .iter()
                .filter_map(|name| Some((name.clone(), std::env::var_os(name)?)))
            {
                self = self.depends_on(format!("${variable}"), value.to_string_lossy());
                paths.push(value.into());
            }
        }
        match definition.init.as_ref().map(|init| &init.source.value) {
            Some(InitSource::Cargo(package)) => programs.push((package.clone(), Vec::new())),
            Some(InitSource::File(file)) => paths.push(path(file)),
            Some(InitSource::Pick(_) | InitSource::Link(_)) | None => {}
        }
        if let Some(kernel) = &definition.kernel {
            paths.extend(kernel.fragments.iter().chain(&kernel.requirements).map(|it| path(it)));
            match &kernel.source.value {
                KernelSource::Tree(tree) => paths.push(path(tree)),
                KernelSource::Files { image, modules, config } => {
                    let all = [Some(image), modules.as_ref(), config.as_ref()];
                    paths.extend(all.into_iter().flatten().map(|it| path(it)));
                }
                KernelSource::Package(_) | KernelSource::Source(_) => {}
            }
        }
        for entry in &definition.files {
            if let Content::File(file) | Content::Tree(file) = &entry.content.value {
                paths.push(path(file));
            }
        }
        for partition in &definition.disk.partitions {
            if let PartitionContent::Files { files: Files::Tree(tree), .. } =
                &partition.content.value
            {
                paths.push(path(tree));
            }
        }
        if let Some(SecureBoot::Keys(keys)) = build::Options::default().secure_boot(definition) {
            paths.push(keys);
        }
        for (package, features) in programs {
            let features: Vec<&str> = features.iter().map(String::as_str).collect();
            self = self.compiles(&package, &features)?;
        }
        others.extend(definition.container.base.iter().map(|it| path(it)));
        self = paths.into_iter().fold(self, Self::reads);
        for file in others {
            self = self.of(&Definition::read(&file)?, &[], known)?;
        }
        Ok(self)
    }
}
