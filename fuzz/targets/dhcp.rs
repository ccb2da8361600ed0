//! Frames and messages of DHCP.
#![no_main]

kiln_fuzz::target!(kiln_fuzz::others::dhcp::wire);
