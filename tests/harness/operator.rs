//! The operator as a process, beside a cluster and not in it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use tempfile::TempDir;

use crate::process::Process;
use crate::tool;

/// A running operator. Dropping it kills it.
pub struct Operator {
    process: Process,
    port: u16,
    arguments: Arguments,
    folder: TempDir,
}

/// What an operator is started with.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// The cluster, and the operator's rights in it.
    pub kubeconfig: PathBuf,
    /// Where its Lease is.
    pub namespace: String,
    /// What it watches; empty: everything.
    pub watched: Vec<String>,
    /// Who it is in the Lease.
    pub pod_name: String,
    /// What is started.
    pub program: PathBuf,
}

impl Arguments {
    /// An operator of one namespace, with a name of its own.
    #[must_use]
    pub fn new(kubeconfig: &Path, namespace: &str) -> Self {
        Self {
            kubeconfig: kubeconfig.to_owned(),
            namespace: namespace.to_owned(),
            watched: vec![namespace.to_owned()],
            pod_name: format!("operator-{}", hex::encode(tool::random::<4>())),
            program: program(),
        }
    }
}

/// The operator's program: what `DEPENDENCY_PROXY_OPERATOR` names, else that of this workspace.
fn program() -> PathBuf {
    match std::env::var_os("DEPENDENCY_PROXY_OPERATOR").filter(|path| !path.is_empty()) {
        Some(path) => path.into(),
        None => tool::own("dependency-proxy-operator"),
    }
}

/// The release that `make image` has built, where it has.
#[must_use]
pub fn release() -> Option<PathBuf> {
    let built = format!("{}-unknown-linux-gnu/release/dependency-proxy-operator", std::env::consts::ARCH);
    Some(tool::target().join(built)).filter(|path| path.is_file())
}

impl Operator {
    /// Starts one, and waits for nothing.
    #[must_use]
    pub fn launch(arguments: &Arguments) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = tool::free_port();
        let process = launch(arguments, port, folder.path());
        Self { process, port, arguments: arguments.clone(), folder }
    }

    /// Starts one, and waits until it leads.
    pub async fn start(arguments: &Arguments) -> Self {
        let mut operator = Self::launch(arguments);
        operator.leads().await;
        operator
    }

    /// Waits until it leads.
    pub async fn leads(&mut self) {
        self.process.prints(" leading").await;
    }

    /// Waits until it is ready: a standby is, too.
    pub async fn is_ready(&mut self) {
        let url = format!("http://127.0.0.1:{}/readyz", self.port);
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let is_ready = async |_: &Process| client.get(&url).send().await.ok()?.error_for_status().ok();
        self.process.until("it is ready", is_ready).await;
    }

    /// SIGKILL, as a node that loses power.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, and waits for its end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.process.terminate();
        self.process.ended().await
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        self.process.ended().await
    }

    /// Starts the same once more, as kubelet does with a container: under the same name, with a new log.
    pub fn start_again(&mut self) {
        self.process.kill();
        std::fs::remove_file(log_file(self.folder.path())).ok();
        self.process = launch(&self.arguments, self.port, self.folder.path());
    }

    /// All that it printed since it was started last.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its resident memory in megabytes, the most so far.
    #[must_use]
    pub fn megabytes(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        number.unwrap_or_default() / 1024
    }

    /// The value of a metric without labels; the prefix is not named.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let url = format!("http://127.0.0.1:{}/metrics", self.port);
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let text = client.get(url).send().await.ok()?.text().await.ok()?;
        let prefix = format!("dependency_proxy_operator_{name} ");
        text.lines().find_map(|line| line.strip_prefix(&prefix)?.parse().ok())
    }
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("operator.log")
}

fn launch(arguments: &Arguments, port: u16, folder: &Path) -> Process {
    let mut command = Command::new(&arguments.program);
    command.args(["--proxy-image=localhost/dependency-proxy:test", "--log=info,operator=debug"]);
    command.arg(format!("--admin-listen=127.0.0.1:{port}"));
    command.arg(format!("--namespace={}", arguments.namespace));
    command.arg(format!("--pod-name={}", arguments.pod_name));
    if !arguments.watched.is_empty() {
        command.arg(format!("--watch-namespaces={}", arguments.watched.join(",")));
    }
    command.env("KUBECONFIG", &arguments.kubeconfig);
    Process::start(&mut command, &log_file(folder))
}
