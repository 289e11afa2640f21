//! The signing key of a proxy to which no Secret brings one, kept over restarts: tokens stay good, pulls go on.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use config::Secret;

use super::random_hex;

/// A key of this data folder's own.
pub struct OwnKey {
    pub kid: String,
    pub secret: Secret,
}

impl OwnKey {
    /// Reads the key, or makes it.
    ///
    /// # Errors
    /// When the file can be neither read nor written.
    pub fn load(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join("signing.key");
        match fs::read_to_string(&path) {
            Ok(text) if text.trim().len() >= 64 => Ok(Self::of(text.trim())),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                let secret = random_hex::<32>();
                let mut file =
                    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
                file.write_all(secret.as_bytes())?;
                Ok(Self::of(&secret))
            }
        }
    }

    fn of(secret: &str) -> Self {
        let kid = config::fingerprint(&[b"kid", secret.as_bytes()])[..8].to_owned();
        Self { kid, secret: Secret::new(secret.to_owned()) }
    }
}
