//! The command line. Every flag has an environment variable.

use std::net::SocketAddr;

use clap::{Parser, ValueEnum};

/// Turns DependencyProxy, groups, upstreams, registries and bindings of a cluster into proxy pods.
#[derive(Clone, Debug, Parser)]
#[command(name = "dependency-proxy-operator", version)]
pub struct Arguments {
    /// Namespaces to watch; none: all of them.
    #[arg(
        long,
        env = "DEPENDENCY_PROXY_OPERATOR_WATCH_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAMESPACE"
    )]
    pub watch_namespaces: Vec<String>,
    /// The operator's own namespace, where its Lease is.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// The operator's name in the Lease and in Events: of several operators each has its own.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: String,
    /// Image of the pods of a DependencyProxy that names none.
    #[arg(long, env = "DEPENDENCY_PROXY_OPERATOR_PROXY_IMAGE", value_name = "IMAGE")]
    pub proxy_image: String,
    /// Where metrics and probes are.
    #[arg(long, env = "DEPENDENCY_PROXY_OPERATOR_ADMIN_LISTEN", default_value = "127.0.0.1:9091")]
    pub admin_listen: SocketAddr,
    /// What is logged, such as `info` or `info,operator=debug`.
    #[arg(long, env = "DEPENDENCY_PROXY_OPERATOR_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// How log lines look.
    #[arg(long, env = "DEPENDENCY_PROXY_OPERATOR_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: Format,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}
