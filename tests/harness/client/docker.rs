//! Docker: its own engine, beside any that runs here, and the command line to it.

use std::process::Command;

use tempfile::TempDir;

use super::{Login, Output, command, home, run};
use crate::process::Process;
use crate::tool;

/// A Docker engine without images and without network. Needs root.
pub struct Docker {
    folder: TempDir,
    engine: Process,
}

impl Docker {
    /// Starts the engine. Ask `tool::left_out(&["dockerd", "docker", "containerd"], true)` before.
    pub async fn start() -> Self {
        let folder = home();
        let at = |name: &str| folder.path().join(name);
        let settings = serde_json::json!({
            "hosts": [format!("unix://{}", at("s").display())],
            "data-root": at("data"),
            "exec-root": at("x"),
            "pidfile": at("pid"),
            "bridge": "none",
            "iptables": false,
            "storage-driver": "vfs",
            "insecure-registries": ["127.0.0.0/8"],
        });
        std::fs::write(at("daemon.json"), settings.to_string()).expect("the settings are written");
        let mut dockerd = Command::new(tool::installed("dockerd").expect("dockerd is installed"));
        // No `timeout` around it: it must outlive single calls, and gets its signals itself.
        dockerd
            .arg("--config-file")
            .arg(at("daemon.json"))
            .env("PATH", tool::path())
            .env("HOME", folder.path());
        dockerd.env("NO_PROXY", "127.0.0.1,localhost").env("DOCKER_TMPDIR", at("tmp"));
        let engine = Process::start(&mut dockerd, &at("log"));
        let mut docker = Self { folder, engine };
        docker.wait().await;
        docker
    }

    async fn wait(&mut self) {
        let Self { folder, engine } = self;
        let info = || {
            let mut command = command(program(), folder.path());
            command.arg("--host").arg(format!("unix://{}", folder.path().join("s").display())).arg("version");
            run(command)
        };
        engine.until("the engine answers", async |_| info().await.success.then_some(())).await;
    }

    /// Any docker command.
    pub async fn call(&self, arguments: &[&str]) -> Output {
        let mut command = command(program(), self.folder.path());
        command
            .arg("--host")
            .arg(format!("unix://{}", self.folder.path().join("s").display()))
            .args(arguments);
        run(command).await
    }

    /// `docker login`; `server` may have a path behind the host.
    pub async fn login(&self, server: &str, login: &Login) -> Output {
        self.call(&["login", "--username", &login.user, "--password", &login.password, server]).await
    }

    /// `docker pull` of an image that the engine then has no more layers of than before: it is removed first.
    pub async fn pull(&self, image: &str) -> Output {
        self.call(&["image", "rm", "--force", image]).await;
        self.call(&["pull", image]).await
    }

    /// The digest by which the engine knows a pulled image: `sha256:...`.
    pub async fn digest(&self, image: &str) -> String {
        let format = "{{range .RepoDigests}}{{println .}}{{end}}";
        let output = self.call(&["image", "inspect", "--format", format, image]).await.succeeds();
        let digest = output.text.lines().find_map(|line| line.split_once('@'));
        digest.unwrap_or_else(|| panic!("no digest of {image}: {}", output.text)).1.to_owned()
    }

    /// What the engine logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.engine.log()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // It ends the containerd that it has started, and unmounts what it mounted.
        self.engine.stop();
    }
}

/// The command line of Debian's package where it is there: it speaks the engine's version of the API.
fn program() -> std::path::PathBuf {
    let packaged = std::path::PathBuf::from("/usr/bin/docker");
    if packaged.is_file() { packaged } else { tool::installed("docker").expect("docker is installed") }
}
