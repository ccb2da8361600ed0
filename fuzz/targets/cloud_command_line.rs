//! Settings of cloud-config on the kernel's command line.
#![no_main]

kiln_fuzz::target!(kiln_fuzz::others::cloudconfig::command_line);
