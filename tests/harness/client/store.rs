//! Clients that keep images in containers-storage: buildah and podman.

use tempfile::TempDir;

use super::{Login, Output, command, home, run};

/// buildah or podman with a storage of its own. Needs root.
///
/// Ask `tool::left_out(&["buildah"], true)`, or `podman`, before.
pub struct Store {
    program: &'static str,
    folder: TempDir,
}

impl Store {
    #[must_use]
    pub fn buildah() -> Self {
        Self::of("buildah")
    }

    #[must_use]
    pub fn podman() -> Self {
        Self::of("podman")
    }

    fn of(program: &'static str) -> Self {
        Self { program, folder: home() }
    }

    /// Any command of the program.
    pub async fn call(&self, arguments: &[&str]) -> Output {
        let mut command = command(self.program, self.folder.path());
        let at = |name: &str| self.folder.path().join(name);
        command
            .arg("--root")
            .arg(at("root"))
            .arg("--runroot")
            .arg(at("run"))
            .args(["--storage-driver", "vfs"]);
        if self.program == "podman" {
            command.arg("--tmpdir").arg(at("tmp")).args([
                "--cgroup-manager",
                "cgroupfs",
                "--events-backend",
                "none",
            ]);
        }
        command.args(arguments);
        run(command).await
    }

    /// `login` over plain HTTP.
    pub async fn login(&self, server: &str, login: &Login) -> Output {
        self.call(&["login", "--tls-verify=false", "-u", &login.user, "-p", &login.password, server]).await
    }

    /// `pull` over plain HTTP, after all images were removed; without `login`, with what `login()` has stored.
    pub async fn pull(&self, image: &str, login: Option<&Login>) -> Output {
        self.call(&["rmi", "--all", "--force"]).await;
        match login {
            Some(login) => self.call(&["pull", "--tls-verify=false", "--creds", &login.pair(), image]).await,
            None => self.call(&["pull", "--tls-verify=false", image]).await,
        }
    }
}
