//! EROFS.
#![no_main]

kiln_fuzz::target!(image kiln_fuzz::diskimg::erofs);
