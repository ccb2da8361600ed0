//! The tests that boot images, in one program: thirty of a hundred megabytes each would take a disk that guests need too.
//! `cargo xtask e2e NAME…` runs those of some files.

mod cluster;
mod containers;
mod filesystems;
mod firmware;
mod first_boot;
mod jobs;
mod kernel;
mod kurma;
mod links;
mod linux;
mod media;
mod netboot;
mod network;
mod nomados;
mod outside;
mod own;
mod panics;
mod podman;
mod ramroot;
mod rancheros;
mod rancheros_disks;
mod rancheros_features;
mod rancheros_install;
mod slots;
mod supervisor;
