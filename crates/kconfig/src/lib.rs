//! Linux kernel configurations: fragments merged, requirements checked
