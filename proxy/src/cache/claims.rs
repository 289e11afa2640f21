//! Work that is done once for the whole instance: one replica claims it, the others wait for it or stream from it.
//!
//! Without other replicas, and where the store or the one that holds a claim fails, everybody works for itself: a lost
//! replica costs one more request to upstream, never a pull.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use oci::{Digest, Tag};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::auth::random_hex;
use crate::replica::{HEARTBEAT, Replica, State};
use crate::store::{Claim, Claimed, Holder, Key, RENEWED, Store};

/// How long a claim stands after work that left something in the store: who looked there a moment too early finds it.
const LINGER: Duration = Duration::from_secs(5);
/// How often a claim is tried for before one goes on without.
const ROUNDS: usize = 8;

/// What is done once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Work {
    /// A blob or manifest is downloaded from an origin.
    Fill(Digest, String),
    /// Upstream is asked what a tag is now.
    Check(Holder, Tag),
}

impl Work {
    fn key(&self) -> Key<'_> {
        match self {
            Self::Fill(digest, origin) => Key::Fill(digest, origin),
            Self::Check(holder, tag) => Key::Check(holder, tag),
        }
    }
}

/// The claims of this replica, and its view of others'.
pub(super) struct Claims {
    store: Arc<Store>,
    /// `None`: there are no others.
    pub(super) replica: Option<Arc<Replica>>,
    /// By path below the instance's own.
    held: Mutex<HashMap<String, Held>>,
}

/// A claim that is this replica's, or will be in a moment.
#[derive(Clone)]
struct Held {
    work: Work,
    claim: Claim,
    ended: CancellationToken,
}

/// Who does it.
pub(super) enum Turn {
    Mine(Mine),
    Theirs(Theirs),
}

/// This replica does it; it ends when this is dropped.
pub(super) struct Mine(Option<Box<Guard>>);

struct Guard {
    claims: Arc<Claims>,
    path: String,
    held: Held,
    /// Whether it stands in the store.
    is_written: bool,
    lingers: bool,
}

/// Another replica does it, or this one already.
pub(super) struct Theirs {
    pub(super) path: String,
    /// `None`: it is this one.
    claimed: Option<Claimed>,
    here: Option<CancellationToken>,
}

/// What came of wanting something that is made once.
pub(super) enum Once<T> {
    /// Somebody else has made it.
    Found(T),
    /// It is to be made here.
    Make(Mine),
}

impl Claims {
    pub(super) fn new(store: Arc<Store>, replica: Option<Arc<Replica>>) -> Arc<Self> {
        let replica = replica.filter(|_| store.is_shared());
        Arc::new(Self { store, replica, held: Mutex::default() })
    }

    /// Claims the work, unless somebody is at it.
    pub(super) async fn turn(self: &Arc<Self>, work: &Work) -> Turn {
        self.turn_after(work, None).await
    }

    /// Claims the work in the place of one that has ended or is gone, unless somebody else was faster.
    pub(super) async fn turn_after(self: &Arc<Self>, work: &Work, other: Option<Theirs>) -> Turn {
        let Some(replica) = &self.replica else { return Turn::Mine(Mine::unclaimed()) };
        let path = work.key().relative();
        let mut instead_of = other.and_then(|other| other.claimed);
        for _ in 0..ROUNDS {
            if let Some(here) = self.at_work(&path) {
                return Turn::Theirs(Theirs { path, claimed: None, here: Some(here) });
            }
            let claim = Claim { replica: replica.address(), id: random_hex::<8>() };
            // In the map first: whoever reads the claim may ask at once.
            let mut guard = self.hold(work, &path, claim);
            match self.store.claim(&work.key(), &guard.held.claim, instead_of.as_ref()).await {
                Ok(true) => {
                    guard.is_written = true;
                    tokio::spawn(self.clone().renew(guard.held.clone(), RENEWED));
                    return Turn::Mine(Mine(Some(Box::new(guard))));
                }
                Ok(false) => drop(guard),
                Err(_) => break,
            }
            match self.store.claimed(&work.key()).await {
                Ok(Some(claimed)) => {
                    let here = self.held.lock().get(&path).map(|held| held.ended.clone());
                    let here = here.filter(|_| claimed.claim.replica == replica.address());
                    return Turn::Theirs(Theirs { path, claimed: Some(claimed), here });
                }
                // It was let go meanwhile.
                Ok(None) => instead_of = None,
                Err(_) => break,
            }
        }
        Turn::Mine(Mine::unclaimed())
    }

    /// What somebody else makes, or made a moment ago, as `look` finds it; else it is this replica's to make. A check that
    /// has failed elsewhere is made by everyone at once: one after the other, the last would wait for as many failures as
    /// there are replicas.
    pub(super) async fn once<T, F>(self: &Arc<Self>, work: &Work, look: impl Fn() -> F) -> Once<T>
    where
        F: Future<Output = Option<T>>,
    {
        let mut turn = self.turn(work).await;
        for _ in 0..ROUNDS {
            match turn {
                Turn::Mine(mine) => return Once::Make(mine),
                Turn::Theirs(other) => {
                    let has_ended = self.ended(&other).await;
                    if let Some(found) = look().await {
                        return Once::Found(found);
                    }
                    if has_ended && matches!(work, Work::Check(..)) {
                        break;
                    }
                    turn = self.turn_after(work, Some(other)).await;
                }
            }
        }
        Once::Make(Mine::unclaimed())
    }

    /// Waits until the other one has ended, well or not, or is gone; whether it has ended.
    pub(super) async fn ended(&self, other: &Theirs) -> bool {
        if let Some(here) = &other.here {
            here.cancelled().await;
            return true;
        }
        let (Some(replica), Some(claimed)) = (&self.replica, &other.claimed) else { return false };
        loop {
            match replica.state(&claimed.claim, &other.path).await {
                Ok(State::Held) => {}
                Ok(State::Ended) => return true,
                Err(_) => return false,
            }
        }
    }

    /// How it stands with a claim of this replica, after a moment in which it may end; `None` for one that it has not.
    pub(super) async fn state(&self, path: &str, id: &str) -> Option<State> {
        let held = self.held.lock().get(path).cloned().filter(|held| held.claim.id == id)?;
        let ended = tokio::time::timeout(HEARTBEAT, held.ended.cancelled()).await;
        Some(if ended.is_ok() { State::Ended } else { State::Held })
    }

    /// Whether this replica has that claim, or will have it in a moment.
    pub(super) fn holds(&self, work: &Work, id: &str) -> bool {
        self.held.lock().get(&work.key().relative()).is_some_and(|held| held.claim.id == id)
    }

    /// Lets go of what is lingering: nobody can ask this replica any more.
    pub(super) async fn close(&self) {
        let held: Vec<_> = self.held.lock().drain().map(|(_, held)| held).collect();
        let left =
            held.iter().map(async |held| self.store.disclaim(&held.work.key(), &held.claim).await.ok());
        futures_util::future::join_all(left).await;
    }

    /// Work of this replica that has not ended.
    fn at_work(&self, path: &str) -> Option<CancellationToken> {
        self.held.lock().get(path).map(|held| held.ended.clone()).filter(|ended| !ended.is_cancelled())
    }

    fn hold(self: &Arc<Self>, work: &Work, path: &str, claim: Claim) -> Guard {
        let held = Held { work: work.clone(), claim, ended: CancellationToken::new() };
        self.held.lock().insert(path.to_owned(), held.clone());
        Guard { claims: self.clone(), path: path.to_owned(), held, is_written: false, lingers: false }
    }

    /// Keeps a claim from expiring for as long as the work takes.
    async fn renew(self: Arc<Self>, held: Held, every: Duration) {
        while tokio::time::timeout(every, held.ended.cancelled()).await.is_err() {
            match self.store.renew_claim(&held.work.key(), &held.claim).await {
                Ok(true) => {}
                // Another replica could not reach this one, and does it, too.
                Ok(false) => return,
                Err(error) => tracing::debug!(%error, "a claim was not renewed"),
            }
        }
    }

    /// Takes a claim out of the map, unless another one stands there by now.
    fn forget(&self, path: &str, id: &str) {
        let mut held = self.held.lock();
        if held.get(path).is_some_and(|held| held.claim.id == id) {
            held.remove(path);
        }
    }

    async fn let_go(&self, path: &str, held: &Held) {
        // Whoever still reads it must not be told that nobody knows of it: he would take this replica for one that is gone.
        if let Err(error) = self.store.disclaim(&held.work.key(), &held.claim).await {
            tracing::debug!(%error, path, "a claim stays behind");
        }
        self.forget(path, &held.claim.id);
    }
}

impl Theirs {
    /// Whom to ask; `None`: it is this replica.
    pub(super) fn claim(&self) -> Option<&Claim> {
        self.claimed.as_ref().filter(|_| self.here.is_none()).map(|claimed| &claimed.claim)
    }
}

impl Mine {
    /// Work that nobody else knows of.
    pub(super) fn unclaimed() -> Self {
        Self(None)
    }

    /// Whether others know of it.
    pub(super) fn is_claimed(&self) -> bool {
        self.0.is_some()
    }

    /// The work has left something in the store: the claim stands a moment longer, for those who looked there before.
    pub(super) fn succeeded(mut self) {
        self.0.iter_mut().for_each(|guard| guard.lingers = true);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.held.ended.cancel();
        let (claims, path, held) = (self.claims.clone(), std::mem::take(&mut self.path), self.held.clone());
        if !self.is_written {
            return claims.forget(&path, &held.claim.id);
        }
        let lingers = self.lingers;
        tokio::spawn(async move {
            if lingers {
                tokio::time::sleep(LINGER).await;
            }
            claims.let_go(&path, &held).await;
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use std::net::SocketAddr;

    use oci::Algorithm;

    use super::*;
    use crate::clock::Clock;
    use crate::store::testing;

    #[tokio::test]
    async fn a_claim_is_renewed_until_the_work_ends_or_another_replica_has_taken_over() {
        let data = tempfile::tempdir().unwrap();
        let config = testing::config();
        let store = Arc::new(testing::shared(&config, data.path()));
        let address = SocketAddr::from(([127, 0, 0, 1], 5002));
        let replica = Replica::new(address, &config, Clock::system()).unwrap();
        let claims = Claims::new(store.clone(), Some(Arc::new(replica)));
        let work = Work::Fill(Digest::of(Algorithm::Sha256, b"blob"), "origin".to_owned());
        let claimed = async || store.claimed(&work.key()).await.unwrap();
        let held = |mine: &Mine| mine.0.as_ref().unwrap().held.clone();

        let Turn::Mine(mine) = claims.turn(&work).await else { panic!("nobody else is there") };
        let first = format!("{:?}", claimed().await.unwrap());
        let renewing = tokio::spawn(claims.clone().renew(held(&mine), Duration::from_millis(1)));
        while format!("{:?}", claimed().await.unwrap()) == first {
            tokio::task::yield_now().await;
        }
        drop(mine);
        renewing.await.unwrap();
        while claimed().await.is_some() {
            tokio::task::yield_now().await;
        }

        let Turn::Mine(mine) = claims.turn(&work).await else { panic!("it was let go") };
        let other = Claim { replica: "127.0.0.2:5002".to_owned(), id: "other".to_owned() };
        assert!(store.claim(&work.key(), &other, claimed().await.as_ref()).await.unwrap());
        let renewing = claims.clone().renew(held(&mine), Duration::from_millis(1));
        tokio::time::timeout(Duration::from_secs(5), renewing).await.unwrap();
        assert_eq!(claimed().await.unwrap().claim, other);
    }
}
