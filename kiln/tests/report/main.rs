//! What is said about a build: manifests, bills of materials, differences, pictures.

#[cfg(test)]
mod diff;
#[cfg(test)]
mod manifest;
#[cfg(test)]
mod picture;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod sbom;
