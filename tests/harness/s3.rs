//! A real S3 server: versitygw on a temporary folder.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::hostile::Ca;
use crate::process::Process;
use crate::tool;

/// An S3 server with path-style addresses and one account.
pub struct S3 {
    folder: TempDir,
    port: u16,
    tls: bool,
    process: Option<Process>,
}

impl S3 {
    pub const ACCESS_KEY: &str = "AKIDHARNESS";
    pub const SECRET_KEY: &str = "harness-secret-key";
    pub const REGION: &str = "us-east-1";

    /// A running server without buckets.
    pub async fn start() -> Self {
        let mut s3 = Self::new(false);
        s3.restart().await;
        s3
    }

    /// The same over TLS, with a certificate of this CA.
    pub async fn start_tls(ca: &Ca) -> Self {
        let mut s3 = Self::new(true);
        let (certificate, key) = ca.issue();
        std::fs::write(s3.folder.path().join("cert.pem"), certificate.pem()).expect("a file");
        std::fs::write(s3.folder.path().join("key.pem"), key.serialize_pem()).expect("a file");
        s3.restart().await;
        s3
    }

    fn new(tls: bool) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let s3 = Self { folder, port: tool::free_port(), tls, process: None };
        std::fs::create_dir(s3.root()).expect("a folder");
        s3
    }

    /// Stops it if it runs, and starts it again on the same port with the same content.
    pub async fn restart(&mut self) {
        self.stop();
        let mut command = Command::new(tool::built("versitygw"));
        command.args(["--access", Self::ACCESS_KEY, "--secret", Self::SECRET_KEY, "--region", Self::REGION]);
        // As S3 does.
        command.arg("--keep-alive");
        if self.tls {
            command.arg("--cert").arg(self.folder.path().join("cert.pem"));
            command.arg("--key").arg(self.folder.path().join("key.pem"));
        }
        command
            .args(["--port", &format!("127.0.0.1:{}", self.port), "--health", "/health", "posix"])
            .arg(self.root());
        let mut process = Process::start(&mut command, &self.folder.path().join("log"));
        if self.tls {
            process.accepts(([127, 0, 0, 1], self.port).into()).await;
        } else {
            process.answers(&format!("{}/health", self.endpoint())).await;
        }
        self.process = Some(process);
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

    /// `http://127.0.0.1:<port>`, or the same with `https`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Creates a bucket and gives its folder: versitygw keeps each object as a file, which a test may look at.
    #[must_use]
    pub fn bucket(&self, name: &str) -> PathBuf {
        let folder = self.root().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    /// All that it printed.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.path().join("log")).unwrap_or_default())
            .into_owned()
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("objects")
    }
}
