//! Kernel modules as data: indexes, aliases, dependencies, load order
