//! A real API server without nodes: etcd, kube-apiserver and kube-controller-manager on free ports of 127.0.0.1.
//!
//! With `KUBECONFIG` set (one file) it is the cluster that this names, and nothing is started. `KUBEBUILDER_ASSETS` may
//! name a folder with `etcd`, `kube-apiserver`, `kube-controller-manager` and `kubectl`, in place of those of `make tools`.

use std::iter::once;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::kubectl::{Kubectl, asset, set};
use crate::process::Process;
use crate::reaper::Reaper;
use crate::tool;

/// An API server, and its administrator's kubeconfig.
pub struct ApiServer {
    kubeconfig: PathBuf,
    /// `key=value` of the namespaces of this test binary.
    label: String,
    _reaper: Reaper,
    _processes: Vec<Process>,
    _folder: Option<TempDir>,
}

impl ApiServer {
    /// The one that all tests of this binary share, each in a namespace of its own. It ends with the binary. None
    /// where none can be started; says so.
    pub async fn shared() -> Option<&'static Self> {
        static SHARED: OnceCell<ApiServer> = OnceCell::const_new();
        if let Some(path) = set("KUBECONFIG") {
            return Some(SHARED.get_or_init(async || Self::of_user(path)).await);
        }
        if set("KUBEBUILDER_ASSETS").is_none() && tool::left_out(&["etcd"], false) {
            return None;
        }
        Some(SHARED.get_or_init(Self::start).await)
    }

    /// The user's. Only the tests' namespaces are taken away.
    fn of_user(kubeconfig: PathBuf) -> Self {
        let label = label();
        let script = r#""$1" delete namespaces --selector="$2" --wait=false"#;
        let _reaper = Reaper::new(script, [asset("kubectl").into_os_string(), (&label).into()]);
        Self { kubeconfig, label, _reaper, _processes: Vec::new(), _folder: None }
    }

    /// One that ends when it is dropped, for tests that do it harm.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = tool::free_port();
        Certificates::generate().write(folder.path(), port);
        let (etcd, address) = etcd(folder.path()).await;
        let server = kube_apiserver(folder.path(), port, &address).await;
        let controllers = kube_controller_manager(folder.path());
        let processes = vec![controllers, server, etcd];
        let script = r#"folder=$1; shift; for id; do kill -KILL "-$id"; done; rm -rf "$folder""#;
        let groups = processes.iter().map(|process| process.id().to_string().into());
        let reaper = Reaper::new(script, once(folder.path().as_os_str().to_owned()).chain(groups));
        Self {
            kubeconfig: folder.path().join("kubeconfig"),
            label: label(),
            _reaper: reaper,
            _processes: processes,
            _folder: Some(folder),
        }
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// `kubectl` as administrator.
    #[must_use]
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.kubeconfig)
    }

    /// A client as administrator, for the runtime of the test that asks for it.
    pub async fn client(&self) -> kube::Client {
        self.kubectl().client().await
    }

    /// A new namespace.
    pub async fn namespace(&self) -> String {
        let name = format!("test-{}", hex::encode(tool::random::<6>()));
        let kubectl = self.kubectl();
        kubectl.run(&["create", "namespace", &name]).await.succeeds();
        kubectl.run(&["label", "namespace", &name, &self.label]).await.succeeds();
        name
    }
}

fn label() -> String {
    format!("dependencyproxy.dev/test-run={}", hex::encode(tool::random::<6>()))
}

async fn etcd(folder: &Path) -> (Process, String) {
    let [clients, peers] = [(); 2].map(|()| format!("http://127.0.0.1:{}", tool::free_port()));
    let assets = set("KUBEBUILDER_ASSETS").map(|folder| folder.join("etcd"));
    let program = assets.or_else(|| tool::installed("etcd"));
    let mut command = Command::new(program.expect("etcd is not installed: as root, make tools installs it"));
    command.arg("--data-dir").arg(folder.join("etcd")).args(["--unsafe-no-fsync", "--log-level=warn"]);
    command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
    command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
    command.args(["--initial-cluster", &format!("default={peers}")]);
    let mut etcd = Process::start(&mut command, &folder.join("etcd.log"));
    etcd.answers(&format!("{clients}/health")).await;
    (etcd, clients)
}

async fn kube_apiserver(folder: &Path, port: u16, etcd: &str) -> Process {
    let mut command = Command::new(asset("kube-apiserver"));
    command.current_dir(folder).args([
        &format!("--etcd-servers={etcd}"),
        &format!("--secure-port={port}"),
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        // Nobody comes by the Service `kubernetes`, and it does not take addresses of the loopback network.
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=10.0.0.0/16",
        "--authorization-mode=RBAC",
        "--allow-privileged=true",
        "--client-ca-file=ca.crt",
        "--tls-cert-file=server.crt",
        "--tls-private-key-file=server.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-account-signing-key-file=accounts.key",
        "--service-account-key-file=accounts.pub",
    ]);
    let mut server = Process::start(&mut command, &folder.join("kube-apiserver.log"));
    let kubectl = Kubectl::new(&folder.join("kubeconfig"));
    let ready = async |_: &Process| kubectl.run(&["get", "--raw=/readyz"]).await.success.then_some(());
    server.until("it is ready", ready).await;
    server
}

/// Deletes what belongs to what was deleted, makes default service accounts, ends namespaces.
fn kube_controller_manager(folder: &Path) -> Process {
    let mut command = Command::new(asset("kube-controller-manager"));
    command.current_dir(folder).args([
        "--kubeconfig=kubeconfig",
        "--secure-port=0",
        "--leader-elect=false",
        "--service-account-private-key-file=accounts.key",
        "--root-ca-file=ca.crt",
        "--use-service-account-credentials",
    ]);
    Process::start(&mut command, &folder.join("kube-controller-manager.log"))
}

/// A CA, what it signed, and the key of service accounts' tokens.
struct Certificates {
    ca: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    fn generate() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = named("a test's cluster", None, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).expect("a certificate").pem();
        Self { ca, issuer: Issuer::new(params, key) }
    }

    fn write(&self, folder: &Path, port: u16) {
        let (server, server_key) = self.sign(named("kube-apiserver", None, &["127.0.0.1", "localhost"]));
        let mut params = named("administrator", Some("system:masters"), &[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (administrator, administrator_key) = self.sign(params);
        let accounts = KeyPair::generate().expect("a key");
        let data = |pem: &str| STANDARD.encode(pem);
        // JSON is YAML.
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "administrator"}}],
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{port}"), "certificate-authority-data": data(&self.ca),
            }}],
            "users": [{"name": "administrator", "user": {
                "client-certificate-data": data(&administrator), "client-key-data": data(&administrator_key),
            }}],
        });
        for (name, text) in [
            ("ca.crt", &self.ca),
            ("server.crt", &server),
            ("server.key", &server_key),
            ("accounts.key", &accounts.serialize_pem()),
            ("accounts.pub", &accounts.public_key_pem()),
            ("kubeconfig", &kubeconfig.to_string()),
        ] {
            std::fs::write(folder.join(name), text).expect("the file is written");
        }
    }

    fn sign(&self, params: CertificateParams) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}

fn named(name: &str, organization: Option<&str>, hosts: &[&str]) -> CertificateParams {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>();
    let mut params = CertificateParams::new(hosts).expect("hosts are names or addresses");
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params
}
