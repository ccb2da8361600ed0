//! A DHCPv4 client without I/O, and its Linux shell
