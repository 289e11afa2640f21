//! The command line. Every flag has an environment variable.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use config::ObjectId;

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
    #[arg(long, env = "DEPENDENCY_PROXY_INSTANCE", value_name = "NAMESPACE/NAME", value_parser = object_id)]
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
    /// The folder of downloads in progress and kept blobs.
    #[arg(long, env = "DEPENDENCY_PROXY_DATA_DIR", default_value = "./data", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// What is logged, such as `info` or `info,access=off`; PUT /log-level on the admin port changes it.
    #[arg(long, env = "DEPENDENCY_PROXY_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// How log lines look.
    #[arg(long, env = "DEPENDENCY_PROXY_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: Format,
    /// Seconds during which connections are still accepted after SIGTERM.
    #[arg(long, env = "DEPENDENCY_PROXY_LINGER_SECONDS", default_value_t = 10)]
    pub linger_seconds: u64,
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
    /// Read all stored blobs besides, and drop those that are damaged: they are fetched again.
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

fn object_id(text: &str) -> Result<ObjectId, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok(ObjectId { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => Err("write it as namespace/name".to_owned()),
    }
}
