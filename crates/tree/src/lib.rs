//! A deterministic file tree: what every image packer reads
