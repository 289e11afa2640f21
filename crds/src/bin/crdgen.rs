//! Prints the custom resource definitions as YAML: `cargo run -p dependency-proxy-crds --bin crdgen > deploy/crds.yaml`.

use std::error::Error;
use std::io::Write;

fn main() -> Result<(), Box<dyn Error>> {
    std::io::stdout().write_all(crds::definitions()?.as_bytes())?;
    Ok(())
}
