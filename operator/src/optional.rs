//! Kinds that a cluster may or may not have.

use std::time::{Duration, Instant};

use kube::Client;
use kube::core::{ApiResource, GroupVersionKind};
use parking_lot::Mutex;

/// How long what was found is believed: somebody may install cert-manager while we run.
const BELIEVED: Duration = Duration::from_secs(60);

/// Which of them there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Optional {
    pub gateway: bool,
    pub cert_manager: bool,
    pub service_monitor: bool,
    pub prometheus_rule: bool,
}

/// Asks the cluster from time to time.
#[derive(Default)]
pub struct Discovery {
    found: Mutex<Option<(Instant, Optional)>>,
}

impl Discovery {
    /// What the cluster has.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub async fn look(&self, client: &Client) -> Result<Optional, kube::Error> {
        if let Some((at, found)) = *self.found.lock()
            && at.elapsed() < BELIEVED
        {
            return Ok(found);
        }
        let monitoring = kinds(client, "monitoring.coreos.com/v1").await?;
        let found = Optional {
            gateway: has(&kinds(client, "gateway.networking.k8s.io/v1").await?, "HTTPRoute"),
            cert_manager: has(&kinds(client, "cert-manager.io/v1").await?, "Certificate"),
            service_monitor: has(&monitoring, "ServiceMonitor"),
            prometheus_rule: has(&monitoring, "PrometheusRule"),
        };
        *self.found.lock() = Some((Instant::now(), found));
        Ok(found)
    }
}

fn has(kinds: &[String], kind: &str) -> bool {
    kinds.iter().any(|found| found == kind)
}

async fn kinds(client: &Client, group: &str) -> Result<Vec<String>, kube::Error> {
    match client.list_api_group_resources(group).await {
        Ok(list) => Ok(list.resources.into_iter().map(|resource| resource.kind).collect()),
        // A group that is not there is answered in plain text, which is no status with a reason.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A route of the Gateway API.
#[must_use]
pub fn http_route() -> ApiResource {
    resource("gateway.networking.k8s.io", "HTTPRoute", "httproutes")
}

/// A certificate of cert-manager.
#[must_use]
pub fn certificate() -> ApiResource {
    resource("cert-manager.io", "Certificate", "certificates")
}

/// What Prometheus reads.
#[must_use]
pub fn service_monitor() -> ApiResource {
    resource("monitoring.coreos.com", "ServiceMonitor", "servicemonitors")
}

/// What Prometheus alerts on.
#[must_use]
pub fn prometheus_rule() -> ApiResource {
    resource("monitoring.coreos.com", "PrometheusRule", "prometheusrules")
}

fn resource(group: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural)
}
