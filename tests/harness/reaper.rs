//! Ends what all tests of a binary share: what is in a `static` is never dropped.

use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};

/// A shell script that runs when this process has ended, however it ended. Dropped before, it does not run.
pub(crate) struct Reaper(Child);

impl Reaper {
    /// `script` gets `arguments` as `$1` and on.
    pub(crate) fn new<A: AsRef<OsStr>>(script: &str, arguments: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new("sh");
        // Standard input ends with this process.
        command.args(["-c", &format!("read -r _; {script}"), "sh"]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("sh starts"))
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
