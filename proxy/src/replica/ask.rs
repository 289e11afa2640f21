//! What a replica asks of another: the bytes of a download in progress, and whether it is still at its work.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, header};
use oci::Digest;
use reqwest::Response;
use tokio::time::timeout;

use super::{CLAIMS, FILLS, HEARTBEAT, Replica, SHOWN, SIZE, STATUS, query_of};
use crate::store::{Claim, Holder};

/// A replica that says nothing for so long is gone: it answers within a [`HEARTBEAT`] whatever it waits for itself.
const SILENCE: Duration = Duration::from_secs(3);

/// Between two questions for a download that has not begun.
const BETWEEN: Duration = Duration::from_millis(5);

/// The replica is not there, does not answer, or does not know the work.
#[derive(Debug)]
pub struct Gone;

/// How it stands with a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The replica is at it.
    Held,
    /// It has ended, well or not.
    Ended,
}

/// The bytes of another replica's download, as they come in there; nothing of them is proven here.
pub struct FillBody {
    response: Response,
    /// Length of the whole blob, where it is known.
    pub size: Option<u64>,
    /// Whether the holder that asked waits for that download there, too: it need not show its right again.
    pub shown: bool,
    replica: Arc<Replica>,
    claim: Claim,
    path: String,
}

impl Replica {
    /// Asks how it stands with a claim, at `path` below the instance's own; answered within a second or so.
    ///
    /// # Errors
    /// [`Gone`] where the replica does not answer, or knows nothing of it.
    pub async fn state(&self, claim: &Claim, path: &str) -> Result<State, Gone> {
        let response = self.get(&claim.replica, &format!("{CLAIMS}{path}?id={}", claim.id)).await?;
        match response.status() {
            StatusCode::ACCEPTED => Ok(State::Held),
            StatusCode::NO_CONTENT => Ok(State::Ended),
            _ => Err(Gone),
        }
    }

    /// Asks for another replica's download from an offset on, once it has begun there; `None` where that replica has no
    /// such download, any more or yet.
    ///
    /// # Errors
    /// [`Gone`] where the replica does not answer.
    pub async fn open_fill(
        self: &Arc<Self>,
        claim: &Claim,
        path: &str,
        (digest, origin): (&Digest, &str),
        holder: &Holder,
        from: u64,
    ) -> Result<Option<FillBody>, Gone> {
        let from = from.to_string();
        let query = query_of(holder).append_pair("id", &claim.id).append_pair("from", &from).finish();
        let target = format!("{FILLS}{digest}/{origin}?{query}");
        loop {
            let response = self.get(&claim.replica, &target).await?;
            match response.status() {
                // It waits there where the download has no first byte yet; it does not where it only begins.
                StatusCode::ACCEPTED => tokio::time::sleep(BETWEEN).await,
                StatusCode::OK => {
                    let text = |name| response.headers().get(name)?.to_str().ok();
                    let size = text(SIZE).and_then(|size| size.parse().ok());
                    let shown = text(SHOWN) == Some("true");
                    let (replica, claim, path) = (self.clone(), claim.clone(), path.to_owned());
                    return Ok(Some(FillBody { response, size, shown, replica, claim, path }));
                }
                _ => return Ok(None),
            }
        }
    }

    /// What another replica says of itself, as its `/status` does.
    ///
    /// # Errors
    /// [`Gone`] where it does not answer.
    pub async fn status(&self, address: &str) -> Result<serde_json::Value, Gone> {
        let response = self.get(address, STATUS).await?;
        let text = timeout(SILENCE, response.text()).await.map_err(|_| Gone)?.map_err(|_| Gone)?;
        serde_json::from_str(&text).map_err(|_| Gone)
    }

    pub(super) async fn get(&self, address: &str, target: &str) -> Result<Response, Gone> {
        // An address and nothing else: what stands in a claim must not lead anywhere.
        let address = address.parse::<SocketAddr>().map_err(|_| Gone)?;
        let pass = self.pass(target).ok_or(Gone)?;
        let request = self.http.get(format!("http://{address}{target}"));
        let request = request.header(header::AUTHORIZATION, format!("Bearer {pass}")).send();
        timeout(SILENCE, request).await.map_err(|_| Gone)?.map_err(|_| Gone)
    }
}

impl FillBody {
    /// The next piece; `None` at the end. Where none comes for a while, the replica is asked whether it is still there:
    /// its upstream may be slow.
    ///
    /// # Errors
    /// [`Gone`] where it is not.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Gone> {
        let mut has_ended = false;
        loop {
            match timeout(2 * HEARTBEAT, self.response.chunk()).await {
                Ok(Ok(chunk)) => return Ok(chunk),
                Ok(Err(_)) => return Err(Gone),
                // The last bytes may have been on their way when it ended.
                Err(_) if has_ended => return Err(Gone),
                Err(_) => has_ended = self.replica.state(&self.claim, &self.path).await? == State::Ended,
            }
        }
    }
}
