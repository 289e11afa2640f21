//! Clients that copy images into folders: skopeo, crane, regctl.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Login, Output, command, home, run};
use crate::tool;

/// skopeo; it needs no daemon and no root. Ask `tool::left_out(&["skopeo"], false)` before.
pub struct Skopeo {
    folder: TempDir,
}

impl Skopeo {
    #[must_use]
    pub fn new() -> Self {
        Self { folder: home() }
    }

    /// Any skopeo command.
    pub async fn call(&self, arguments: &[&str]) -> Output {
        let mut command = command("skopeo", self.folder.path());
        command.arg("--insecure-policy").args(arguments);
        run(command).await
    }

    /// `skopeo login`.
    pub async fn login(&self, server: &str, login: &Login) -> Output {
        self.call(&["login", "--tls-verify=false", "-u", &login.user, "-p", &login.password, server]).await
    }

    /// `skopeo copy --all` into a new folder with every manifest and blob as a file, byte for byte.
    pub async fn copy(&self, image: &str, login: Option<&Login>) -> (Output, PathBuf) {
        let into = fresh(&self.folder);
        let (source, target) = (format!("docker://{image}"), format!("dir:{}", into.display()));
        let pair = login.map(Login::pair);
        let credentials = pair.as_ref().map(|pair| ["--src-creds", pair.as_str()]);
        let copy = ["copy", "--all", "--preserve-digests", "--src-tls-verify=false"];
        let all =
            [&copy[..], credentials.as_ref().map_or(&[], |flags| &flags[..]), &[&source, &target]].concat();
        (self.call(&all).await, into)
    }

    /// `skopeo inspect --raw`: the manifest as the registry has it.
    pub async fn inspect(&self, image: &str, login: &Login) -> Output {
        let (image, pair) = (format!("docker://{image}"), login.pair());
        self.call(&["inspect", "--raw", "--tls-verify=false", "--creds", &pair, &image]).await
    }
}

/// crane, built from source; `127.0.0.1` alone is plain HTTP for it unless told otherwise.
pub struct Crane {
    folder: TempDir,
}

impl Crane {
    #[must_use]
    pub fn new() -> Self {
        Self { folder: home() }
    }

    /// Any crane command.
    pub async fn call(&self, arguments: &[&str]) -> Output {
        let mut command = command(tool::built("crane"), self.folder.path());
        command.args(arguments);
        run(command).await
    }

    /// `crane auth login`, which only writes the credentials down.
    pub async fn login(&self, server: &str, login: &Login) -> Output {
        self.call(&["auth", "login", server, "-u", &login.user, "-p", &login.password]).await
    }

    /// `crane pull --format=oci` into a new OCI layout: index, all platforms, all blobs.
    pub async fn pull(&self, image: &str) -> (Output, PathBuf) {
        let into = fresh(&self.folder);
        let target = into.display().to_string();
        (self.call(&["pull", "--insecure", "--format=oci", image, &target]).await, into)
    }
}

/// regctl, built from source.
pub struct Regctl {
    folder: TempDir,
}

impl Regctl {
    #[must_use]
    pub fn new() -> Self {
        Self { folder: home() }
    }

    /// Any regctl command.
    pub async fn call(&self, arguments: &[&str]) -> Output {
        let mut command = command(tool::built("regctl"), self.folder.path());
        command.env("REGCTL_CONFIG", self.folder.path().join("regctl.json")).args(arguments);
        run(command).await
    }

    /// `regctl registry login` over plain HTTP; it asks the registry.
    pub async fn login(&self, host: &str, login: &Login) -> Output {
        self.call(&["registry", "set", "--tls", "disabled", "--skip-check", host]).await.succeeds();
        self.call(&["registry", "login", "-u", &login.user, "-p", &login.password, host]).await
    }

    /// `regctl image copy` into a new OCI layout, with all platforms.
    pub async fn copy(&self, image: &str) -> (Output, PathBuf) {
        self.copy_with(&[], image).await
    }

    /// The same with all that refers to the image.
    pub async fn copy_with_referrers(&self, image: &str) -> (Output, PathBuf) {
        self.copy_with(&["--referrers"], image).await
    }

    async fn copy_with(&self, options: &[&str], image: &str) -> (Output, PathBuf) {
        let into = fresh(&self.folder);
        let target = format!("ocidir://{}:copy", into.display());
        (self.call(&[&["image", "copy"], options, &[image, &target]].concat()).await, into)
    }
}

/// A path in `folder` where nothing is yet.
fn fresh(folder: &TempDir) -> PathBuf {
    Path::new(folder.path()).join(format!("copy-{}", hex::encode(tool::random::<8>())))
}

macro_rules! default_is_new {
    ($($client:ty),*) => {$(
        impl Default for $client {
            fn default() -> Self {
                Self::new()
            }
        }
    )*};
}
default_is_new!(Skopeo, Crane, Regctl);
