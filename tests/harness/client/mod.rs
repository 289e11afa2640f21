//! Real clients, each with its storage and its credentials in a temporary folder of its own.
//!
//! Every call gives an [`Output`]; `succeeds` and `fails` say which one the test expects.

mod copy;
mod ctr;
mod docker;
mod store;

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

pub use copy::{Crane, Regctl, Skopeo};
pub use ctr::Ctr;
pub use docker::Docker;
pub use store::Store;
use tempfile::TempDir;

use crate::tool;

/// A user and a password or token.
#[derive(Clone, Debug)]
pub struct Login {
    pub user: String,
    pub password: String,
}

impl Login {
    #[must_use]
    pub fn new(user: &str, password: &str) -> Self {
        Self { user: user.to_owned(), password: password.to_owned() }
    }

    /// `user:password`, as the clients' flags take it.
    #[must_use]
    pub fn pair(&self) -> String {
        format!("{}:{}", self.user, self.password)
    }
}

/// What a client did.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    pub success: bool,
    /// Standard output and standard error, one after the other.
    pub text: String,
}

impl Output {
    /// # Panics
    /// With the client's words, if it failed.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert!(self.success, "{} failed:\n{}", self.command, self.text);
        self
    }

    /// # Panics
    /// If it succeeded, or says nothing of `sentence`.
    #[track_caller]
    pub fn fails_with(self, sentence: &str) -> Self {
        assert!(!self.success, "{} succeeded:\n{}", self.command, self.text);
        assert!(self.text.contains(sentence), "{} does not say {sentence:?}:\n{}", self.command, self.text);
        self
    }
}

/// A folder for a client, with the empty list of credentials that buildah wants to find.
fn home() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("auth.json"), "{}").expect("the file is written");
    folder
}

/// A command whose home is `home`, and which knows nothing of this machine's logins and proxies.
fn command(program: impl AsRef<OsStr>, home: &Path) -> Command {
    // A client that hangs must not hang the tests.
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "180"]).arg(program);
    command.env("HOME", home).env("PATH", tool::path()).env("DOCKER_CONFIG", home.join("docker"));
    command.env("REGISTRY_AUTH_FILE", home.join("auth.json")).env("XDG_RUNTIME_DIR", home);
    command
        .env("NO_PROXY", "127.0.0.1,localhost")
        .env("no_proxy", "127.0.0.1,localhost")
        .stdin(Stdio::null());
    command
}

/// Runs it to its end without blocking the test's own servers.
async fn run(mut command: Command) -> Output {
    let line = command.get_args().skip(2).map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
    let done = tokio::task::spawn_blocking(move || command.output()).await.expect("the client is waited for");
    let done = done.unwrap_or_else(|e| panic!("{line} does not start: {e}"));
    let text = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Output { command: line, success: done.status.success(), text }
}
