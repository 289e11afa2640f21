//! The Lease: of several operators one leads.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::watcher;
use kube::{Api, Client};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;

use crate::args::Arguments;

/// Name of the Lease.
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
}

/// Waits until this operator leads.
///
/// # Errors
/// When the API server refuses the Lease.
pub async fn win(client: &Client, arguments: &Arguments) -> Result<Leadership, LeaseManagerError> {
    let leases = Api::namespaced(client.clone(), &arguments.namespace);
    loop {
        let mut lease = LeaseManagerBuilder::new(client.clone(), LEASE)
            .with_namespace(&arguments.namespace)
            .with_duration(LEASE_SECONDS)
            .with_grace(LEASE_GRACE);
        if let Some(name) = &arguments.pod_name {
            lease = lease.with_identity(name);
        }
        let (mut leads, task) = lease.build().await?.watch().await;
        // Whoever waits sleeps until the Lease would have ended, also where it was given back before. Beginning anew
        // is what wakes it.
        let has_won = tokio::select! {
            won = leads.wait_for(|leads| *leads) => won.is_ok(),
            () = given_back(&leases) => false,
        };
        if has_won {
            return Ok(Leadership { leads, task, leases });
        }
        task.abort();
    }
}

/// Waits until somebody who led leads no more.
async fn given_back(leases: &Api<Lease>) {
    let mut was_held = false;
    let mut seen = std::pin::pin!(seen(leases));
    while let Some(lease) = seen.next().await {
        let is_held = lease.and_then(|lease| lease.spec?.holder_identity).is_some();
        if was_held && !is_held {
            return;
        }
        was_held = is_held;
    }
}

/// The Lease after each change; `None` where it was deleted.
fn seen(leases: &Api<Lease>) -> impl Stream<Item = Option<Lease>> {
    watcher::watch_object(leases.clone(), LEASE).filter_map(|lease| std::future::ready(lease.ok()))
}

impl Leadership {
    /// Waits until another one leads, or this one could not renew the Lease in time.
    pub async fn lost(&mut self) {
        let mut seen = std::pin::pin!(seen(&self.leases));
        // Every renewal is seen; none is seen where the API server is away.
        let unseen = async {
            let longest = Duration::from_secs(LEASE_SECONDS);
            while tokio::time::timeout(longest, seen.next()).await.is_ok_and(|lease| lease.is_some()) {}
        };
        tokio::select! {
            _ = self.leads.wait_for(|leads| !*leads) => {}
            () = unseen => {}
        }
    }

    /// Gives the Lease back: the next operator need not wait for its end.
    pub async fn give_back(self) {
        drop(self.leads);
        tokio::time::timeout(PATIENCE, self.task).await.ok();
    }
}
