//! `kubectl` for one cluster, and what it said.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::client::Output;
use crate::tool;

/// `kubectl` with a kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubectl {
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// For the cluster of this kubeconfig.
    #[must_use]
    pub fn new(kubeconfig: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned() }
    }

    /// Runs it to its end.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, "").await
    }

    /// The same with this text as standard input.
    pub async fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        finish(self.command(arguments), format!("kubectl {}", arguments.join(" ")), input).await
    }

    /// Runs another program for the same cluster, such as helm, to its end.
    pub async fn program(&self, program: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "300"]).arg(program).args(arguments);
        command.env("KUBECONFIG", &self.kubeconfig).env("PATH", tool::path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command, format!("{} {}", program.display(), arguments.join(" ")), "").await
    }

    fn command(&self, arguments: &[&str]) -> Command {
        // A program that hangs must not hang the tests.
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "300"]).arg(asset("kubectl")).args(arguments);
        command.env("KUBECONFIG", &self.kubeconfig).env("PATH", tool::path());
        if set("KUBECONFIG").is_none() {
            // Not at home: what one cluster serves is nothing that the next one on this port has to.
            command.env("KUBECACHEDIR", self.kubeconfig.with_extension("cache"));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A client of the same API server in this process.
    ///
    /// # Panics
    /// If the kubeconfig names no cluster.
    pub async fn client(&self) -> kube::Client {
        let file = kube::config::Kubeconfig::read_from(&self.kubeconfig).expect("a kubeconfig");
        let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await;
        kube::Client::try_from(config.expect("a kubeconfig with a cluster")).expect("a client")
    }

    /// Server-side apply of YAML documents.
    ///
    /// # Panics
    /// If the API server refuses one.
    pub async fn apply(&self, documents: &str) {
        let arguments = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        self.run_with(&arguments, documents).await.succeeds();
    }

    /// What `kubectl ARGUMENTS -o json` prints.
    ///
    /// # Panics
    /// If it fails.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["-o", "json"]].concat()).await.succeeds();
        // Warnings go to standard error, which follows.
        let first = serde_json::Deserializer::from_str(&output.text).into_iter().next();
        first
            .and_then(Result::ok)
            .unwrap_or_else(|| panic!("{} prints no JSON:\n{}", output.command, output.text))
    }

    /// Waits until `object` (such as `pod/web`) of a namespace is as `condition` says: `condition=Ready`,
    /// `jsonpath={.status.phase}=Running`, `delete`, `create`.
    ///
    /// # Panics
    /// With what `kubectl describe` tells of the object, after two minutes.
    pub async fn wait(&self, namespace: &str, object: &str, condition: &str) {
        let arguments = ["wait", "-n", namespace, object, &format!("--for={condition}"), "--timeout=120s"];
        let output = self.run(&arguments).await;
        if !output.success {
            let described = self.run(&["describe", "-n", namespace, object]).await;
            panic!("{} failed:\n{}\n{}", output.command, output.text, described.text);
        }
    }
}

/// A program of Kubernetes: of the folder `KUBEBUILDER_ASSETS`, or of `make tools`.
pub(crate) fn asset(name: &str) -> PathBuf {
    set("KUBEBUILDER_ASSETS").map_or_else(|| tool::built(name), |folder| folder.join(name))
}

/// The path in a variable of the environment that is set and not empty.
pub(crate) fn set(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Runs a command whose three streams are pipes to its end, without blocking the test's own servers.
pub(crate) async fn finish(mut command: Command, line: String, input: &str) -> Output {
    let input = input.to_owned();
    let run = move || {
        let mut child = command.spawn()?;
        // What ends before it has read everything says why on standard error.
        let _ = child.stdin.take().map(|mut pipe| pipe.write_all(input.as_bytes()));
        child.wait_with_output()
    };
    let done = tokio::task::spawn_blocking(run).await.expect("the command is waited for");
    let done = done.unwrap_or_else(|e| panic!("{line} does not start: {e}"));
    let text = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Output { command: line, success: done.status.success(), text }
}
