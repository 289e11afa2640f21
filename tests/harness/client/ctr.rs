//! containerd: its own daemon, and `ctr` to it.

use std::process::Command;

use tempfile::TempDir;

use super::{Login, Output, command, home, run};
use crate::process::Process;
use crate::tool;

/// A containerd without images. Needs root.
pub struct Ctr {
    folder: TempDir,
    _daemon: Process,
}

impl Ctr {
    /// Starts the daemon. Ask `tool::left_out(&["containerd", "ctr"], true)` before.
    pub async fn start() -> Self {
        let folder = home();
        let at = |name: &str| folder.path().join(name);
        let settings = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\n  address = {:?}\n[ttrpc]\n  address = {:?}\n",
            at("root"),
            at("state"),
            at("s"),
            at("s.ttrpc"),
        );
        std::fs::write(at("config.toml"), settings).expect("the settings are written");
        let mut containerd = Command::new(tool::installed("containerd").expect("containerd is installed"));
        containerd.arg("--config").arg(at("config.toml")).env("PATH", tool::path());
        let mut daemon = Process::start(&mut containerd, &at("log"));
        daemon.prints("containerd successfully booted").await;
        Self { folder, _daemon: daemon }
    }

    /// Any ctr command.
    pub async fn call(&self, arguments: &[&str]) -> Output {
        let mut command = command(tool::installed("ctr").expect("ctr is installed"), self.folder.path());
        command
            .arg("--address")
            .arg(self.folder.path().join("s"))
            .args(["--namespace", "test"])
            .args(arguments);
        run(command).await
    }

    /// `ctr images pull` over plain HTTP, unpacked, after all images were removed.
    pub async fn pull(&self, image: &str, login: &Login) -> Output {
        self.remove_all().await;
        let user = login.pair();
        self.call(&["images", "pull", "--plain-http", "--snapshotter", "native", "--user", &user, image])
            .await
    }

    /// `ctr images pull` of an upstream's own name through a mirror: `root` is the mirror's URL with its path, which
    /// takes the place of `/v2` (`override_path`).
    pub async fn pull_by_mirror(&self, image: &str, root: &str, login: &Login) -> Output {
        self.remove_all().await;
        let (host, _) = image.split_once('/').expect("an image name with a host");
        let hosts = self.folder.path().join("hosts");
        std::fs::create_dir_all(hosts.join(host)).expect("a folder");
        let text = format!(
            "server = \"http://{host}\"\n[host.\"{root}\"]\n  capabilities = [\"pull\", \"resolve\"]\n  override_path = true\n"
        );
        std::fs::write(hosts.join(host).join("hosts.toml"), text).expect("the mirror is written");
        let (hosts, user) = (hosts.display().to_string(), login.pair());
        let options = ["--hosts-dir", &hosts, "--snapshotter", "native", "--user", &user];
        self.call(&[&["images", "pull"], &options[..], &[image]].concat()).await
    }

    /// Removes all images and, before it returns, their content: the next pull asks for everything.
    async fn remove_all(&self) {
        let images = self.call(&["images", "ls", "--quiet"]).await.succeeds().text;
        for image in images.lines() {
            self.call(&["images", "rm", "--sync", image]).await.succeeds();
        }
    }

    /// The digest that an image's name stands for here.
    pub async fn digest(&self, image: &str) -> String {
        let output = self.call(&["images", "ls", &format!("name=={image}")]).await.succeeds();
        let digest = output.text.split_whitespace().find(|word| word.starts_with("sha256:"));
        digest.unwrap_or_else(|| panic!("no {image}: {}", output.text)).to_owned()
    }
}
