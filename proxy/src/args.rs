//! The command line. Every flag has an environment variable.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use config::ObjectId;
use jiff::SignedDuration;
use url::Url;

use crate::telemetry::Format;

/// A pull-through cache for container images.
#[derive(Debug, Parser)]
#[command(name = "dependency-proxy", version, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve images.
    Serve(Serve),
    /// Print the problems of documents; exit 1 if there is an error among them.
    Check(Documents),
    /// Forget what the documents' cleanup policies and quotas say, and free what nobody has a right to.
    Cleanup(Cleanup),
    /// Tell what a pull of an image would do, and why it would be refused.
    Explain(Explain),
    /// Print each upstream's pull limit and what remains, without spending a pull.
    Quota(Documents),
    /// Ask whether a registry answers at a URL; exit 0 if it does.
    Probe(Probe),
    /// Print what a running instance does: replicas, downloads, upstreams.
    Status(Status),
    /// Serve only cached copies of an upstream for a while: nothing is asked of it.
    Freeze(Freeze),
    /// Forget what is cached of a group, a virtual registry or an upstream.
    Purge(Purge),
}

#[derive(Debug, Args)]
pub struct Documents {
    /// A file or folder of documents; may be repeated.
    #[arg(
        short = 'f',
        long = "file",
        env = "DEPENDENCY_PROXY_FILE",
        value_delimiter = ',',
        value_name = "PATH"
    )]
    pub file: Vec<PathBuf>,
    /// The DependencyProxy to serve, where the documents have several.
    #[arg(long, env = "DEPENDENCY_PROXY_INSTANCE", value_name = "NAMESPACE/NAME")]
    pub instance: Option<ObjectId>,
}

#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    pub documents: Documents,
    /// Where clients reach it.
    #[arg(long, env = "DEPENDENCY_PROXY_LISTEN", default_value = "127.0.0.1:5000")]
    pub listen: SocketAddr,
    /// PEM file of the certificate of the port for clients, with its chain; read again when it changes. Without it:
    /// plain http.
    #[arg(long, env = "DEPENDENCY_PROXY_TLS_CERTIFICATE", value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// PEM file of the certificate's private key.
    #[arg(long, env = "DEPENDENCY_PROXY_TLS_KEY", value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// Where metrics, probes and status are.
    #[arg(long, env = "DEPENDENCY_PROXY_ADMIN_LISTEN", default_value = "127.0.0.1:9090")]
    pub admin_listen: SocketAddr,
    /// Where other replicas of the same instance reach this one; they share downloads through its bucket.
    #[arg(long, env = "DEPENDENCY_PROXY_REPLICA_ADDRESS", value_name = "ADDRESS:PORT", value_parser = address)]
    pub replica_address: Option<SocketAddr>,
    /// The folder of downloads in progress and kept blobs.
    #[arg(long, env = "DEPENDENCY_PROXY_DATA_DIR", default_value = "./data", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// What is logged, such as `info` or `info,access=off`; PUT /log-level on the admin port changes it.
    #[arg(long, env = "DEPENDENCY_PROXY_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// How log lines look.
    #[arg(long, env = "DEPENDENCY_PROXY_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: Format,
    /// For tests: how far its clock is ahead. With it, and only then, POST /clock on the admin port moves it on.
    #[arg(long, env = "DEPENDENCY_PROXY_CLOCK_OFFSET", hide = true, allow_hyphen_values = true)]
    pub clock_offset: Option<SignedDuration>,
    /// Seconds during which connections are still accepted after SIGTERM.
    #[arg(long, env = "DEPENDENCY_PROXY_LINGER_SECONDS", default_value_t = 10)]
    pub linger_seconds: u64,
}

#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    pub admin: Admin,
    /// Print it as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Freeze {
    /// The RegistryUpstream, as namespace/name or, where only one has it, its name.
    pub upstream: String,
    /// For how long, such as 90m or 2h; 0s ends it.
    #[arg(long = "for", env = "DEPENDENCY_PROXY_FREEZE_FOR", value_name = "TIME", default_value = "1h")]
    pub length: SignedDuration,
    #[command(flatten)]
    pub admin: Admin,
}

#[derive(Debug, Args)]
pub struct Purge {
    #[command(flatten)]
    pub target: PurgeTarget,
    /// This image alone, such as library/alpine.
    #[arg(long, env = "DEPENDENCY_PROXY_IMAGE")]
    pub image: Option<String>,
    /// This tag of the image alone.
    #[arg(long, env = "DEPENDENCY_PROXY_TAG", requires = "image", conflicts_with = "digest")]
    pub tag: Option<String>,
    /// This manifest or blob alone.
    #[arg(long, env = "DEPENDENCY_PROXY_DIGEST")]
    pub digest: Option<String>,
    #[command(flatten)]
    pub admin: Admin,
}

/// Whose cache is forgotten.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct PurgeTarget {
    /// All of a DependencyProxyGroup, as namespace/name.
    #[arg(long, env = "DEPENDENCY_PROXY_GROUP", value_name = "NAMESPACE/NAME")]
    pub group: Option<String>,
    /// What a VirtualRegistry's upstreams brought its group, by its id.
    #[arg(long, env = "DEPENDENCY_PROXY_REGISTRY", value_name = "NAMESPACE.NAME")]
    pub registry: Option<String>,
    /// What a RegistryUpstream brought all groups, as namespace/name.
    #[arg(long, env = "DEPENDENCY_PROXY_UPSTREAM", value_name = "NAMESPACE/NAME")]
    pub upstream: Option<String>,
}

/// The running proxy that is asked.
#[derive(Debug, Args)]
pub struct Admin {
    /// URL of its second port. In a pod: kubectl exec POD -- /dependency-proxy status
    #[arg(
        long = "admin",
        env = "DEPENDENCY_PROXY_ADMIN",
        default_value = "http://127.0.0.1:9090",
        value_name = "URL"
    )]
    pub url: Url,
}

#[derive(Debug, Args)]
pub struct Cleanup {
    #[command(flatten)]
    pub documents: Documents,
    /// The folder of the proxy, where the documents name no bucket.
    #[arg(long, env = "DEPENDENCY_PROXY_DATA_DIR", default_value = "./data", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Print what would be forgotten and freed, and do nothing.
    #[arg(long, env = "DEPENDENCY_PROXY_DRY_RUN")]
    pub dry_run: bool,
    /// Read stored blobs besides, and drop those that are damaged: they are fetched again. It goes on where the run before
    /// stopped.
    #[arg(long, env = "DEPENDENCY_PROXY_VERIFY")]
    pub verify: bool,
    /// How fast they are read.
    #[arg(
        long,
        env = "DEPENDENCY_PROXY_VERIFY_BYTES_PER_SECOND",
        default_value_t = 50_000_000,
        value_name = "N"
    )]
    pub verify_bytes_per_second: u64,
    /// For how long they are read, such as 10m; to the last one where nothing is said.
    #[arg(long, env = "DEPENDENCY_PROXY_VERIFY_FOR", value_name = "TIME")]
    pub verify_for: Option<SignedDuration>,
    /// Write what was done to this file, as JSON of at most 4096 bytes.
    #[arg(long, env = "DEPENDENCY_PROXY_TERMINATION_LOG", value_name = "FILE")]
    pub termination_log: Option<PathBuf>,
    /// What is logged.
    #[arg(long, env = "DEPENDENCY_PROXY_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// How log lines look.
    #[arg(long, env = "DEPENDENCY_PROXY_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: Format,
}

#[derive(Debug, Args)]
pub struct Probe {
    /// Such as http://127.0.0.1:5000.
    pub url: String,
}

#[derive(Debug, Args)]
pub struct Explain {
    /// The image as it is pulled, with or without the host.
    pub image: String,
    /// Who pulls: a static user or a deploy token's user name.
    #[arg(long = "as", env = "DEPENDENCY_PROXY_AS", value_name = "USER")]
    pub user: Option<String>,
    #[command(flatten)]
    pub documents: Documents,
    /// The folder of the proxy, to tell what is cached.
    #[arg(long, env = "DEPENDENCY_PROXY_DATA_DIR", default_value = "./data", value_name = "DIR")]
    pub data_dir: PathBuf,
}

/// An address and a port; IPv6 with or without brackets, as Kubernetes writes a pod's address.
fn address(text: &str) -> Result<SocketAddr, String> {
    let unbracketed = || {
        let (ip, port) = text.rsplit_once(':')?;
        Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
    };
    let address = text.parse().ok().or_else(unbracketed);
    address.ok_or_else(|| "write it as address:port, such as 10.0.0.7:5001".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replicas_address_is_what_kubernetes_writes_and_a_port() {
        for (text, expected) in [
            ("10.0.0.7:5001", "10.0.0.7:5001"),
            ("[fd00::7]:5001", "[fd00::7]:5001"),
            ("fd00::7:5001", "[fd00::7]:5001"),
        ] {
            assert_eq!(address(text).map(|a| a.to_string()), Ok(expected.to_owned()));
        }
        for text in ["", "5001", "host:5001", "10.0.0.7", "10.0.0.7:x"] {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
