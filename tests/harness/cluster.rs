//! A real cluster of two nodes, with kubelet and containerd: `tests/cluster/cluster` starts it.
//!
//! With `KUBECONFIG` set it is the cluster that this names. Image archives are then not loaded: the user does that
//! (`kind load image-archive`, `k3d image import`), and what needs to enter a node is left out. Node ports must answer
//! at the nodes' addresses from here.
//!
//! containerd asks a registry by http only if it is at `localhost`: NodePorts answer at every node's `localhost`, so
//! image names of tests begin with `localhost:<node port>`. Another host needs a `hosts.toml` on every node
//! ([`Cluster::hosts`]); so do mirrors.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tokio::sync::OnceCell;

use crate::client::Output;
use crate::kubectl::{Kubectl, finish, set};
use crate::reaper::Reaper;
use crate::repository::Repository;
use crate::tool;

/// What `tests/cluster/cluster` calls besides the programs of `tests/tools.list`.
const PROGRAMS: [&str; 13] = [
    "bash",
    "busybox",
    "conntrack",
    "containerd",
    "etcd",
    "ip",
    "iptables",
    "jq",
    "openssl",
    "runc",
    "skopeo",
    "socat",
    "umoci",
];

/// A node that pods may run on.
#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    /// Where its node ports answer.
    pub address: String,
}

/// A running cluster.
pub struct Cluster {
    kubeconfig: PathBuf,
    /// Stops the cluster after the last test; none for a user's own.
    reaper: Option<Reaper>,
}

impl Cluster {
    /// The one that all tests of this binary share. It ends with the binary. None where none can be started; says so.
    ///
    /// # Panics
    /// With what the script printed, if it does not start: also where another one is up already.
    pub async fn shared() -> Option<&'static Self> {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        if let Some(path) = set("KUBECONFIG") {
            let own = async || Self { kubeconfig: path, reaper: None };
            return Some(SHARED.get_or_init(own).await);
        }
        if !cfg!(target_os = "linux") || tool::left_out(&PROGRAMS, true) {
            return None;
        }
        Some(SHARED.get_or_init(Self::start).await)
    }

    async fn start() -> Self {
        let started = run(&["up".into(), "2".into()], "").await.succeeds();
        // Before anything else can fail.
        let reaper = Some(Reaper::new(r#""$1" down"#, [script()]));
        let path = started.text.lines().find(|line| line.ends_with("/kubeconfig"));
        Self { kubeconfig: path.expect("the script prints the path of the kubeconfig").into(), reaper }
    }

    /// The same for tests that enter nodes: None on a user's own cluster, and says so.
    ///
    /// # Panics
    /// As `shared` does.
    pub async fn with_nodes() -> Option<&'static Self> {
        let cluster = Self::shared().await?;
        if cluster.is_users() {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("a test");
            // Not eprintln: the output of a test that passes is hidden, and this must be seen.
            let _ =
                writeln!(std::io::stderr(), "left out: {name}: it needs nodes of its own: unset KUBECONFIG");
            return None;
        }
        Some(cluster)
    }

    /// Whether this is the user's cluster, and nodes cannot be entered.
    fn is_users(&self) -> bool {
        self.reaper.is_none()
    }

    /// The first two nodes that pods may run on, by name.
    ///
    /// # Panics
    /// If there are fewer.
    pub async fn nodes(&self) -> [Node; 2] {
        let nodes = self.kubectl().json(&["get", "nodes"]).await;
        let nodes = nodes["items"].as_array().expect("a list").iter();
        let takes_pods = |node: &&Value| {
            let taints = node["spec"]["taints"].as_array();
            !taints.into_iter().flatten().any(|taint| taint["effect"] == "NoSchedule")
        };
        let mut nodes = nodes.filter(takes_pods).map(|node| {
            let mut addresses = node["status"]["addresses"].as_array().into_iter().flatten();
            let internal = addresses.find(|address| address["type"] == "InternalIP");
            let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
            Node {
                name: text(node["metadata"].get("name")),
                address: text(internal.and_then(|a| a.get("address"))),
            }
        });
        let two = [nodes.next(), nodes.next()];
        two.map(|node| node.expect("two nodes that pods may run on"))
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

    /// Imports an image archive, such as that of `make image`, into every node. Nothing on a user's cluster.
    ///
    /// # Panics
    /// If a node refuses it.
    pub async fn load(&self, archive: &Path) {
        if !self.is_users() {
            run(&["load".into(), archive.into()], "").await.succeeds();
        }
    }

    /// Imports `localhost/gitlab-runner-helper:1` into every node: what a GitLab runner has beside each job.
    ///
    /// # Panics
    /// On a user's cluster.
    pub async fn runner_helper(&self) {
        self.enter(&["runner"], &[]).await.succeeds();
    }

    /// Runs a command where Services, pods and nodes of the cluster answer, with `KUBECONFIG` set.
    ///
    /// # Panics
    /// On a user's cluster.
    pub async fn exec(&self, command: &[&str]) -> Output {
        self.enter(&["exec"], command).await
    }

    /// Runs a command in the network of node 1 or 2: its `localhost` is the node's.
    ///
    /// # Panics
    /// On a user's cluster.
    pub async fn node(&self, number: u8, command: &[&str]) -> Output {
        self.enter(&["node", &number.to_string()], command).await
    }

    async fn enter(&self, place: &[&str], command: &[&str]) -> Output {
        assert!(!self.is_users(), "networks of KUBECONFIG's cluster cannot be entered");
        let words = place.iter().chain(command).map(OsString::from).collect::<Vec<_>>();
        run(&words, "").await
    }

    /// Gives every node's containerd this `hosts.toml` for a registry; it is read at each pull. A registry that
    /// speaks plain http needs `[host."http://HOST"]` (`server` alone is not enough for containerd 1.6).
    ///
    /// # Panics
    /// On a user's cluster.
    pub async fn hosts(&self, registry: &str, toml: &str) {
        assert!(!self.is_users(), "nodes of KUBECONFIG's cluster cannot be changed");
        run(&["hosts".into(), registry.into()], toml).await.succeeds();
    }

    /// An upstream registry as a pod, and a way to push to it. It has `library/busybox` and
    /// `tools/crane`, which is busybox with crane, already.
    ///
    /// Pods reach it at `http://registry.upstream.svc:5000`, kubelets at `localhost:30501`.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn upstream(&self, repository: &str) -> Repository {
        static STARTED: OnceCell<()> = OnceCell::const_new();
        STARTED.get_or_init(|| self.refill_upstream()).await;
        let [first, _] = self.nodes().await;
        Repository::new(&format!("http://{}:30501", first.address), repository, None)
    }

    /// Puts busybox into the upstream registry again: what it holds goes with its pod.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn refill_upstream(&self) {
        let mut command = Command::new(script());
        command.arg("upstream").env("PATH", tool::path()).env_remove("KUBECONFIG");
        if self.is_users() {
            command.env("KUBECONFIG", &self.kubeconfig);
        }
        finish(command, "cluster upstream".to_owned(), "").await.succeeds();
    }

    /// Lets the pods with this label send no more than that, such as `80mbit`, until they are replaced.
    ///
    /// # Panics
    /// If one of them does not run here.
    pub async fn throttle(&self, namespace: &str, label: &str, rate: &str) {
        let pods = self.kubectl().json(&["get", "pods", "-n", namespace, "-l", label]).await;
        for pod in pods["items"].as_array().expect("a list") {
            let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap_or_default();
            let id = id.rsplit('/').next().expect("a part");
            let pid = process_of(id).unwrap_or_else(|| panic!("container {id:?} has no process here"));
            let shape = ["tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", rate];
            let mut command = Command::new("nsenter");
            command.args(["--target", &pid.to_string(), "--net"]).args(shape);
            command.args(["burst", "256kb", "latency", "100ms"]).env("PATH", tool::path());
            finish(command, "tc".to_owned(), "").await.succeeds();
        }
    }

    /// An S3 server as a pod, `http://s3.store.svc:7070`, with the bucket `blobs`; see `tests/cluster/s3.yaml`.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn s3(&self) {
        let kubectl = self.kubectl();
        kubectl.apply(include_str!("../cluster/s3.yaml")).await;
        kubectl
            .run(&["rollout", "status", "-n", "store", "deployment/s3", "--timeout=120s"])
            .await
            .succeeds();
    }
}

/// A process of a container on this machine.
fn process_of(container: &str) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.find(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|cgroup| cgroup.contains(container))
    })
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/cluster")
}

/// Runs the script to its end.
async fn run(words: &[OsString], input: &str) -> Output {
    let mut command = Command::new(script());
    command.args(words).env("PATH", tool::path()).env_remove("KUBECONFIG");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command, format!("cluster {words:?}"), input).await
}
