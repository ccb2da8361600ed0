//! Writes inputs to begin with, one directory for each target: small images of our own writers.

use std::error::Error;
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let out = std::env::args_os().nth(1).ok_or("usage: seeds DIRECTORY")?;
    for (target, inputs) in kiln_fuzz::seeds::all()? {
        let directory = Path::new(&out).join(target);
        fs::create_dir_all(&directory)?;
        for (at, input) in inputs.iter().enumerate() {
            fs::write(directory.join(format!("seed-{at}")), input)?;
        }
    }
    Ok(())
}
