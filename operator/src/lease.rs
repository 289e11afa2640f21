//! The Lease: of several operators one leads.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError, LeaseParams};
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;

use crate::args::Arguments;

/// Name of the Lease. The chart makes it, without saying who leads; where it is not there, it is made.
pub const LEASE: &str = "dependency-proxy-operator";
/// Seconds after which a leader that says nothing more is replaced.
const LEASE_SECONDS: u64 = 15;
/// Seconds before the end at which the leader renews.
const LEASE_GRACE: u64 = 5;
/// How long the last word to the API server may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// That this operator leads.
pub struct Leadership {
    leads: Receiver<bool>,
    task: JoinHandle<Result<LeaseManager, LeaseManagerError>>,
    leases: Api<Lease>,
    holder: String,
}

/// Waits until this operator leads.
///
/// # Errors
/// When the API server refuses the Lease.
pub async fn win(client: &Client, arguments: &Arguments) -> Result<Leadership, LeaseManagerError> {
    let leases = Api::namespaced(client.clone(), &arguments.namespace);
    let parameters = LeaseParams::new(&arguments.pod_name, LEASE_SECONDS, LEASE_GRACE);
    // Watched before a manager reads the Lease: whatever changes after it has read is seen here.
    let mut seen = std::pin::pin!(seen(&leases));
    seen.next().await;
    loop {
        let manager = LeaseManagerBuilder::new(client.clone(), LEASE)
            .with_namespace(&arguments.namespace)
            .with_parameters(parameters.clone());
        let (mut leads, task) = manager.build().await?.watch().await;
        // A manager that waits sleeps until the Lease that it read would have ended, also where it is given back before.
        // Beginning anew is what wakes it; one that was about to win finds its own name in the Lease.
        let has_won = tokio::select! {
            won = leads.wait_for(|leads| *leads) => won.is_ok(),
            () = given_back(&mut seen) => false,
        };
        if has_won {
            return Ok(Leadership { leads, task, leases, holder: arguments.pod_name.clone() });
        }
        task.abort();
    }
}

/// Waits for a change that leaves the Lease without a holder.
async fn given_back(seen: &mut (impl Stream<Item = Option<Lease>> + Unpin)) {
    while let Some(lease) = seen.next().await {
        if holder(lease).is_none() {
            return;
        }
    }
}

fn holder(lease: Option<Lease>) -> Option<String> {
    lease?.spec?.holder_identity
}

/// The Lease as it is, and after each change; `None` where it is not there.
fn seen(leases: &Api<Lease>) -> impl Stream<Item = Option<Lease>> + use<> {
    let watch = watcher::watch_object(leases.clone(), LEASE).default_backoff();
    watch.filter_map(|lease| std::future::ready(lease.ok()))
}

impl Leadership {
    /// Waits until the Lease is another's or nobody's, or this one could not renew it in time.
    pub async fn lost(&mut self) {
        let mut seen = std::pin::pin!(seen(&self.leases));
        let not_held = async {
            // Every renewal is seen; none is seen where the API server is away.
            let longest = Duration::from_secs(LEASE_SECONDS);
            while let Ok(Some(lease)) = tokio::time::timeout(longest, seen.next()).await {
                if holder(lease).as_ref() != Some(&self.holder) {
                    return;
                }
            }
        };
        tokio::select! {
            _ = self.leads.wait_for(|leads| !*leads) => {}
            () = not_held => {}
        }
    }

    /// Gives the Lease back: the next operator need not wait for its end.
    pub async fn give_back(self) {
        drop(self.leads);
        tokio::time::timeout(PATIENCE, self.task).await.ok();
    }
}
