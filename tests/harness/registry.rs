//! A real upstream registry: distribution v3, or Debian's docker-registry 2.8.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::process::Process;
use crate::repository::Repository;
use crate::tool;

/// A registry with its storage in a temporary folder. It starts without accounts.
pub struct Registry {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    account: Option<(String, String)>,
    origin: Option<String>,
    process: Option<Process>,
    marker: AtomicU32,
}

impl Registry {
    /// A distribution v3 registry, not started: call `with_htpasswd`, `as_proxy_of`, then `restart`.
    #[must_use]
    pub fn new() -> Self {
        Self::of(tool::built("registry"))
    }

    fn of(program: PathBuf) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (port, marker) = (tool::free_port(), AtomicU32::new(0));
        Self { program, folder, port, account: None, origin: None, process: None, marker }
    }

    /// A running distribution v3 registry.
    pub async fn start() -> Self {
        Self::new().started().await
    }

    /// A running docker-registry 2.8, of Debian.
    ///
    /// # Panics
    /// If it is not installed; ask `tool::left_out(&["docker-registry"], false)` before.
    pub async fn debian() -> Self {
        Self::of(tool::installed("docker-registry").expect("docker-registry is installed")).started().await
    }

    /// Asks every request for this account, with Basic authentication.
    #[must_use]
    pub fn with_htpasswd(mut self, user: &str, password: &str) -> Self {
        let hash = bcrypt::hash(password, 4).expect("a bcrypt hash");
        std::fs::write(self.folder.path().join("htpasswd"), format!("{user}:{hash}\n"))
            .expect("the file is written");
        self.account = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Makes it a pull-through cache of the registry at `url`.
    #[must_use]
    pub fn as_proxy_of(mut self, url: &str) -> Self {
        self.origin = Some(url.to_owned());
        self
    }

    /// Starts what `new` has set up.
    pub async fn started(mut self) -> Self {
        self.restart().await;
        self
    }

    fn settings(&self) -> serde_json::Value {
        let storage = self.folder.path().join("storage");
        let mut settings = serde_json::json!({
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {
                "filesystem": {"rootdirectory": storage},
                "delete": {"enabled": true},
            },
            "http": {"addr": self.host(), "secret": "for tests"},
        });
        if self.account.is_some() {
            let path = self.folder.path().join("htpasswd");
            settings["auth"] = serde_json::json!({"htpasswd": {"realm": "registry", "path": path}});
        }
        if let Some(origin) = &self.origin {
            settings["proxy"] = serde_json::json!({"remoteurl": origin});
        }
        settings
    }

    /// Stops it if it runs, and starts it again on the same port with the same content.
    pub async fn restart(&mut self) {
        self.stop();
        let file = self.folder.path().join("config.yml");
        // JSON is YAML.
        std::fs::write(&file, self.settings().to_string()).expect("the settings are written");
        let mut command = Command::new(&self.program);
        command.arg("serve").arg(&file).env("OTEL_TRACES_EXPORTER", "none");
        let mut process = Process::start(&mut command, &self.log_file());
        process.answers(&format!("{}/v2/", self.url())).await;
        self.process = Some(process);
    }

    /// The process id, for figures of processor time.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Kills it; connections to it are refused from now on.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// It keeps its connections and accepts new ones, but answers nothing until `resume`.
    pub fn pause(&self) {
        self.process.iter().for_each(Process::pause);
    }

    pub fn resume(&self) {
        self.process.iter().for_each(Process::resume);
    }

    /// `127.0.0.1:<port>`
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `http://127.0.0.1:<port>`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.host())
    }

    /// Where to push to and read from: the registry's own API for one repository.
    #[must_use]
    pub fn repository(&self, name: &str) -> Repository {
        Repository::new(&self.url(), name, self.account.clone())
    }

    /// How many GETs of a path that contains `text` it has answered since it was created.
    pub async fn gets(&self, text: &str) -> usize {
        self.count("GET", text).await
    }

    /// How many HEADs of a path that contains `text` it has answered since it was created.
    pub async fn heads(&self, text: &str) -> usize {
        self.count("HEAD", text).await
    }

    async fn count(&self, method: &str, text: &str) -> usize {
        let lines = self.requests().await;
        lines.iter().filter(|line| line.starts_with(&format!("{method} ")) && line.contains(text)).count()
    }

    /// All requests so far, each as `METHOD /path?query`, from its access log.
    ///
    /// The log gets a line after the answer is out, so a marked request of our own tells when it has caught up.
    pub async fn requests(&self) -> Vec<String> {
        let marker = format!("/v2/?harness={}", self.marker.fetch_add(1, Ordering::Relaxed));
        if self.process.is_some() {
            let client = reqwest::Client::builder().no_proxy().build().expect("a client");
            client.get(format!("http://{}{marker}", self.host())).send().await.expect("the registry answers");
            while !self.log().contains(&format!("GET {marker} ")) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
        // The access log is the one with the request in quotes at its known place: ... [date] "GET /v2/ HTTP/1.1" 200 ...
        let log = self.log();
        let quoted = log.lines().filter_map(|line| line.split_once("] \"")?.1.split_once(" HTTP/1."));
        quoted.map(|(request, _)| request.to_owned()).filter(|request| !is_own(request)).collect()
    }

    /// All that it printed.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

/// The harness's own requests: markers, and the question whether it has started.
fn is_own(request: &str) -> bool {
    request == "GET /v2/" || request.starts_with("GET /v2/?harness=")
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}
