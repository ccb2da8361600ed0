//! PID 1 and services: a supervision machine without I/O, and its Unix shell
