//! The built `dependency-proxy serve` as a child process, on free ports and a temporary data folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::Process;
use crate::tool;

/// A proxy, before and while it runs. Its address is known before it starts, since documents name it.
pub struct ProxyProcess {
    folder: TempDir,
    port: u16,
    documents: bool,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    admin: String,
    process: Option<Process>,
}

impl ProxyProcess {
    #[must_use]
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            port: tool::free_port(),
            documents: false,
            arguments: Vec::new(),
            environment: Vec::new(),
            admin: String::new(),
            process: None,
        }
    }

    /// What it serves, instead of the defaults of a laptop. Called while it runs, it changes the file in one step.
    #[must_use]
    pub fn documents(mut self, yaml: &str) -> Self {
        self.documents = true;
        self.change_documents(yaml);
        self
    }

    /// One more environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// One more argument of `serve`.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Starts it and waits until it has printed its addresses and takes connections.
    pub async fn start(mut self) -> Self {
        self.restart().await;
        self
    }

    /// Kills it if it runs, and starts it again on the same address with the same data folder.
    pub async fn restart(&mut self) {
        self.kill9();
        let begun = self.log().len();
        let mut process = Process::start(&mut self.command(), &self.file("log"));
        // Serving http://127.0.0.1:5000   metrics http://127.0.0.1:9090/metrics   cache ./data
        let first = process
            .until("Serving ...   metrics ...", async |process| {
                let log = process.log();
                let whole = log.get(begun..=log.rfind('\n')?)?;
                whole.lines().find(|line| line.starts_with("Serving ")).map(str::to_owned)
            })
            .await;
        let words: Vec<_> = first.split_whitespace().collect();
        let admin = words.iter().position(|word| *word == "metrics").and_then(|at| words.get(at + 1));
        let admin = admin.unwrap_or_else(|| panic!("no metrics address in {first:?}"));
        self.admin = admin.trim_end_matches("/metrics").to_owned();
        process.accepts(([127, 0, 0, 1], self.port).into()).await;
        self.process = Some(process);
    }

    fn command(&self) -> Command {
        let mut command = Command::new(tool::own("dependency-proxy"));
        command.args(["serve", "--listen", &self.host(), "--admin-listen", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(self.data());
        if self.documents {
            command.arg("-f").arg(self.file("documents.yaml"));
        }
        command.args(&self.arguments).env("NO_PROXY", "127.0.0.1,localhost");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Replaces the documents in one step, as an editor or `kubectl` would; it should take them within 2 s.
    pub fn change_documents(&self, yaml: &str) {
        let written = self.file("documents.new");
        std::fs::write(&written, yaml).expect("the documents are written");
        std::fs::rename(written, self.file("documents.yaml")).expect("the documents are replaced");
    }

    /// `127.0.0.1:<port>`
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `http://127.0.0.1:<port>`: the `externalURL` that its documents should have.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.host())
    }

    /// `http://127.0.0.1:<port>` of the second port.
    #[must_use]
    pub fn admin_url(&self) -> &str {
        &self.admin
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.file("data")
    }

    /// The process id, for figures of memory.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// All metrics, as text.
    pub async fn metrics(&self) -> String {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let response =
            client.get(format!("{}/metrics", self.admin)).send().await.expect("metrics are answered");
        response.text().await.expect("metrics are text")
    }

    /// The sum of all samples of `name` which have all these labels, or 0: `name`, or `name{a="b",c="d"}`.
    ///
    /// Both may be written without the prefix `dependency_proxy_`, and labels in any order.
    pub async fn metric(&self, sample: &str) -> f64 {
        sum(&self.metrics().await, sample)
    }

    /// Waits until a metric satisfies `enough`.
    ///
    /// # Panics
    /// If it does not within ten seconds.
    pub async fn metric_until(&self, sample: &str, enough: impl Fn(f64) -> bool) -> f64 {
        for _ in 0..500 {
            let value = self.metric(sample).await;
            if enough(value) {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{sample} is {} after 10 s:\n{}", self.metric(sample).await, self.log());
    }

    /// All that it printed since it was first started.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.file("log")).unwrap_or_default()).into_owned()
    }

    /// SIGSTOP: it keeps its connections, and answers nothing until `resume`.
    pub fn pause(&self) {
        self.process.iter().for_each(Process::pause);
    }

    pub fn resume(&self) {
        self.process.iter().for_each(Process::resume);
    }

    /// SIGKILL, without waiting.
    pub fn signal_kill(&self) {
        self.process.iter().for_each(Process::signal_kill);
    }

    /// SIGTERM, without waiting: it drains.
    pub fn sigterm(&self) {
        self.process.iter().for_each(Process::terminate);
    }

    /// SIGINT, without waiting.
    pub fn sigint(&self) {
        self.process.iter().for_each(Process::interrupt);
    }

    /// Waits until it has ended after `sigterm`.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("it was started");
        process.ended().await
    }

    /// SIGKILL: nothing is written any more.
    pub fn kill9(&mut self) {
        self.process = None;
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }
}

impl Default for ProxyProcess {
    fn default() -> Self {
        Self::new()
    }
}

/// Sums the samples of an OpenMetrics text that match `name{label="value",...}`.
fn sum(text: &str, sample: &str) -> f64 {
    let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
    let wanted: Vec<_> = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).collect();
    let matches = |line: &&str| {
        let line = line.strip_prefix("dependency_proxy_").unwrap_or(line);
        let name = name.strip_prefix("dependency_proxy_").unwrap_or(name);
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{']));
        rest.is_some_and(|rest| wanted.iter().all(|label| rest.contains(label)))
    };
    let values = text.lines().filter(matches).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

#[cfg(test)]
mod tests {
    use super::sum;

    const TEXT: &str = "# TYPE dependency_proxy_requests counter\n\
        dependency_proxy_requests_total{group=\"a\",kind=\"blob\",result=\"hit\"} 2\n\
        dependency_proxy_requests_total{group=\"b\",kind=\"blob\",result=\"hit\"} 3\n\
        dependency_proxy_requests_total{group=\"b\",kind=\"blob\",result=\"miss\"} 5\n\
        dependency_proxy_fills_in_flight 7\n# EOF\n";

    #[test]
    fn samples_are_found_by_name_and_labels_in_any_order() {
        assert_eq!(sum(TEXT, "requests_total{result=\"hit\",kind=\"blob\"}"), 5.0);
        assert_eq!(sum(TEXT, "dependency_proxy_requests_total"), 10.0);
        assert_eq!(sum(TEXT, "fills_in_flight"), 7.0);
        assert_eq!(sum(TEXT, "requests"), 0.0);
    }
}
