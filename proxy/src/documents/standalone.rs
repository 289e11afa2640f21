//! What is served where there are no documents: one group on Docker Hub, and a token for it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use config::TokenHash;

use crate::auth::random_hex;

/// The documents of a laptop.
pub struct Standalone {
    pub file: PathBuf,
    /// The token, the first time; later only its hash is known.
    pub token: Option<String>,
}

/// Makes the documents of group `default` in the data folder, or finds those that an earlier start made.
///
/// # Errors
/// When the file cannot be written.
pub fn standalone(data_dir: &Path) -> io::Result<Standalone> {
    let file = data_dir.join("default.yaml");
    if file.exists() {
        return Ok(Standalone { file, token: None });
    }
    let token = format!("dp_{}", random_hex::<20>());
    let hash = TokenHash::of(b"", &token).to_hex();
    let text = format!(
        "# Made by the first start without -f. Delete this file to get a new token.
apiVersion: dependencyproxy.dev/v1alpha1
kind: DependencyProxyGroup
metadata: {{name: default, namespace: default}}
spec:
  proxyRef: {{name: default, namespace: default}}
  path: default
  deployTokens: [{{name: default, secretRef: {{name: default-token}}, scopes: [read_registry]}}]
---
apiVersion: v1
kind: Secret
metadata: {{name: default-token, namespace: default}}
type: dependencyproxy.dev/token
stringData: {{username: default, hash: \"{hash}\"}}
"
    );
    let mut written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?;
    written.write_all(text.as_bytes())?;
    Ok(Standalone { file, token: Some(token) })
}
