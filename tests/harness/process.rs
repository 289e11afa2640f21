//! A child process that ends with its owner.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::TcpStream;

/// How long a foreign program may take to begin or to end. Long, since the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a foreign program is asked whether it is there: it offers no event to wait on.
const POLL: Duration = Duration::from_millis(10);

/// A running program in a process group of its own, its output in a file. Dropping it kills the whole group.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, with its output appended to `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("the log file opens");
        command
            .stdin(Stdio::null())
            .stderr(file.try_clone().expect("a file handle"))
            .stdout(file)
            .process_group(0);
        let child = command
            .spawn()
            .unwrap_or_else(|e| panic!("{} does not start: {e}", command.get_program().display()));
        Self { child, log: log.to_owned() }
    }

    /// All that it printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until `ready` gives a value.
    ///
    /// # Panics
    /// With the log, if the program ends or `PATIENCE` passes before.
    pub async fn until<T>(&mut self, what: &str, mut ready: impl AsyncFnMut(&Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(value) = ready(self).await {
                return value;
            }
            let ended = self.child.try_wait().expect("the child is ours");
            assert!(ended.is_none(), "ended ({ended:?}) before {what}:\n{}", self.log());
            assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}:\n{}", self.log());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until it takes connections at `address`.
    pub async fn accepts(&mut self, address: SocketAddr) {
        self.until("it listens", async |_| TcpStream::connect(address).await.ok()).await;
    }

    /// Waits until a GET of `url` is answered, with any status.
    pub async fn answers(&mut self, url: &str) {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        self.until("it answers", async |_| client.get(url).send().await.ok()).await;
    }

    /// Waits until a line with `text` is in its log, and gives that line.
    pub async fn prints(&mut self, text: &str) -> String {
        self.until(text, async |this| {
            let log = this.log();
            // Only whole lines: the program may be in the middle of writing one.
            let whole = &log[..=log.rfind('\n')?];
            whole.lines().find(|line| line.contains(text)).map(str::to_owned)
        })
        .await
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has an id");
        // An error means that the group has already ended.
        let _ = kill_process_group(group, signal);
    }

    /// SIGSTOP: it keeps its connections, and answers nothing.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGKILL, without waiting.
    pub fn signal_kill(&self) {
        self.signal(Signal::KILL);
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGINT, as from a keyboard, without waiting.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// If that takes longer than `PATIENCE`.
    pub async fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "does not end:\n{}", self.log());
            tokio::time::sleep(POLL).await;
        }
    }

    /// SIGKILL for the whole group, and waits for the end.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }

    /// SIGTERM, and SIGKILL where that is not obeyed within ten seconds. For programs that start others.
    pub fn stop(&mut self) {
        self.terminate();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(POLL);
        }
        self.kill();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
