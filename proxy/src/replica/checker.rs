//! Which replica checks a tag for all of them, where each answer is checked: by a hash of the tag and their addresses
//! (rendezvous hashing) all think of the same one, and whoever asks there joins the HEAD that is under way. Nothing
//! depends on it: where they do not agree, or it does not answer, one more HEAD is sent.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::BytesMut;
use http::StatusCode;
use oci::Tag;
use tokio::time::timeout;

use super::{BEAT, CHECKS, Gone, Replica, query_of};
use crate::store::Holder;
use crate::upstream::{ManifestHead, Reason};

/// A replica that runs begins its answer at once. One that does not is not waited for: a HEAD is cheap.
const AT_ONCE: Duration = Duration::from_millis(25);
/// It says something every [`BEAT`] while upstream lets it wait.
const SILENCE: Duration = BEAT.saturating_mul(3);
/// What it says is short.
const MAX_BYTES: usize = 16 * 1024;

/// What upstream said to another replica.
pub type Heard = Result<ManifestHead, Reason>;

impl Replica {
    /// Takes note of the replicas that run, this one among them or not.
    pub fn know(&self, mut running: Vec<String>) {
        running.retain(|address| *address != self.address());
        *self.others.write() = running;
    }

    /// What upstream says a tag is, asked by the replica that checks it. `account` is the fingerprint of who asks: nobody
    /// is answered with what was said to another account. `None`: that is this replica, or it does not say.
    pub async fn heard(&self, holder: &Holder, tag: &Tag, account: &str) -> Option<Heard> {
        let target = target(holder, tag, account);
        let checker = self.checker(&target)?;
        let heard = self.hear(&checker, &target).await;
        if heard.is_err() {
            // Until it has shown again that it runs.
            self.others.write().retain(|other| *other != checker);
        }
        heard.ok().flatten()
    }

    fn checker(&self, target: &str) -> Option<String> {
        // The hash may be another one in another build: then two replicas check for a while.
        let score = |address: &str| {
            let mut hasher = DefaultHasher::new();
            (address, target).hash(&mut hasher);
            hasher.finish()
        };
        let others = self.others.read();
        let first = others.iter().max_by_key(|address| score(address))?;
        (score(first) > score(&self.address())).then(|| first.clone())
    }

    /// `Err`: it is not there, or stands still. `None`: its documents do not lead there, or it could not ask.
    async fn hear(&self, checker: &str, target: &str) -> Result<Option<Heard>, Gone> {
        let asked = timeout(AT_ONCE, self.get(checker, target));
        let mut response = asked.await.map_err(|_| Gone)??;
        if response.status() != StatusCode::OK {
            return Ok(None);
        }
        let mut said = BytesMut::new();
        while let Some(piece) =
            timeout(SILENCE, response.chunk()).await.map_err(|_| Gone)?.map_err(|_| Gone)?
        {
            // The blanks that it sends meanwhile are worth nothing.
            if piece.iter().any(|byte| !byte.is_ascii_whitespace()) {
                said.extend_from_slice(&piece);
            }
            if said.len() > MAX_BYTES {
                return Ok(None);
            }
        }
        Ok(serde_json::from_slice(&said).ok())
    }
}

/// Path and query of the question.
fn target(holder: &Holder, tag: &Tag, account: &str) -> String {
    format!("{CHECKS}{account}/{tag}?{}", query_of(holder).finish())
}
