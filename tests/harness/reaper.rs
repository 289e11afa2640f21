//! Ends what all tests of a binary share: what is in a `static` is never dropped.

use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};

/// A shell script that runs when this is dropped, or when this process has ended, however it ended.
pub(crate) struct Reaper {
    /// Holds the pipe to the script's standard input, which ends with this process.
    _script: Child,
}

impl Reaper {
    /// `script` gets `arguments` as `$1` and on.
    pub(crate) fn new<A: AsRef<OsStr>>(script: &str, arguments: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("read -r _; {script}"), "sh"]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { _script: command.spawn().expect("sh starts") }
    }
}
