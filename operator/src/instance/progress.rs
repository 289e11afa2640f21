//! How far each instance has come, for as long as it is there.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::histogram::Histogram;

/// After so long without the documents a pod is nudged once more.
const NUDGE_AGAIN: Duration = Duration::from_secs(1);

/// What is remembered of instances, by uid: one that is made again under its name begins anew.
#[derive(Default)]
pub struct Progress(Mutex<HashMap<String, Known>>);

#[derive(Default)]
struct Known {
    push: Option<Push>,
    shared_keys: BTreeSet<String>,
    built: BTreeSet<(String, String)>,
}

/// Since when an instance's documents are on their way to the pods, and how often these were nudged again.
struct Push {
    hash: String,
    since: Instant,
    nudges: u32,
    is_done: bool,
}

impl Progress {
    /// Takes note of how far a push is. The number of the next nudge, when it is time for one.
    pub(crate) fn step(&self, uid: &str, hash: &str, is_there: bool, duration: &Histogram) -> Option<u32> {
        let mut all = self.0.lock();
        let begun = || Push { hash: hash.to_owned(), since: Instant::now(), nudges: 0, is_done: false };
        let push = all.entry(uid.to_owned()).or_default().push.get_or_insert_with(begun);
        if push.hash != hash {
            *push = begun();
        }
        if is_there {
            if !push.is_done {
                duration.observe(push.since.elapsed().as_secs_f64());
                push.is_done = true;
            }
            return None;
        }
        push.is_done = false;
        if push.since.elapsed() < NUDGE_AGAIN * (push.nudges + 1) {
            return None;
        }
        push.nudges += 1;
        Some(push.nudges)
    }

    /// Key ids that every ready pod had last.
    pub(crate) fn shared_keys(&self, uid: &str) -> BTreeSet<String> {
        self.0.lock().get(uid).map(|known| known.shared_keys.clone()).unwrap_or_default()
    }

    /// Takes note of the key ids that every ready pod has.
    pub(crate) fn note_keys(&self, uid: &str, shared: BTreeSet<String>) {
        self.0.lock().entry(uid.to_owned()).or_default().shared_keys = shared;
    }

    /// Whether these are the kinds and names of what was built last.
    pub(crate) fn has_built(&self, uid: &str, names: &BTreeSet<(String, String)>) -> bool {
        self.0.lock().get(uid).is_some_and(|known| known.built == *names)
    }

    /// Takes note of what was built.
    pub(crate) fn note_built(&self, uid: &str, names: BTreeSet<(String, String)>) {
        self.0.lock().entry(uid.to_owned()).or_default().built = names;
    }

    /// The uids of which something is remembered.
    #[cfg(test)]
    pub(crate) fn known(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }

    /// The instance is no more.
    pub(crate) fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}
