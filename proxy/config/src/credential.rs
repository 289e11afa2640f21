//! What machines pull with: deploy tokens of groups, and credentials of PullBindings.

use std::collections::HashMap;
use std::fmt;

use jiff::Timestamp;

use crate::{ObjectId, TokenHash, fingerprint};

/// A user name, and the hash of a random password.
#[derive(Clone, Debug)]
pub struct PullCredential {
    /// Path of the group in which it may pull, and in those below it.
    pub group: String,
    pub owner: Owner,
    pub username: String,
    pub hash: TokenHash,
    /// Whether it may pull: a deploy token has scopes.
    pub reads: bool,
    /// From then on it works no longer.
    pub expires_at: Option<Timestamp>,
    /// Changes when user name or password change; issued tokens carry it.
    pub fingerprint: String,
}

/// Whose credential it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The deploy token of that name in the group.
    DeployToken(String),
    PullBinding(ObjectId),
}

/// As answers and logs name the caller.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeployToken(name) => f.write_str(name),
            Self::PullBinding(id) => write!(f, "binding {id}"),
        }
    }
}

impl PullCredential {
    pub(crate) fn new(
        group: &str,
        owner: Owner,
        username: &str,
        hash: TokenHash,
        reads: bool,
        expires_at: Option<Timestamp>,
    ) -> Self {
        // Of the credential alone: one Secret may serve several groups.
        let fingerprint = fingerprint(&["deploy-token", username, &hash.to_hex()].map(str::as_bytes));
        Self {
            group: group.to_owned(),
            owner,
            username: username.to_owned(),
            hash,
            reads,
            expires_at,
            fingerprint,
        }
    }

    /// Whether it still works.
    #[must_use]
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|at| now < at)
    }

    /// Whether it counts in a group of that path: its own group is that one, or one above it.
    #[must_use]
    pub fn counts_in(&self, path: &str) -> bool {
        path.strip_prefix(&self.group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// All of them, found without looking at each: requests ask by fingerprint, sign-ins by user name.
#[derive(Clone, Debug, Default)]
pub struct PullCredentials {
    all: Vec<PullCredential>,
    by_username: HashMap<String, Vec<usize>>,
    by_fingerprint: HashMap<String, Vec<usize>>,
}

impl PullCredentials {
    /// Those of that user name; several groups may have one each.
    pub fn named(&self, username: &str) -> impl Iterator<Item = &PullCredential> {
        self.at(self.by_username.get(username))
    }

    /// Those of that fingerprint: one credential may serve several groups.
    pub fn with_fingerprint(&self, fingerprint: &str) -> impl Iterator<Item = &PullCredential> {
        self.at(self.by_fingerprint.get(fingerprint))
    }

    fn at(&self, places: Option<&Vec<usize>>) -> impl Iterator<Item = &PullCredential> {
        places.into_iter().flatten().filter_map(|place| self.all.get(*place))
    }
}

impl FromIterator<PullCredential> for PullCredentials {
    fn from_iter<I: IntoIterator<Item = PullCredential>>(credentials: I) -> Self {
        let mut found = Self { all: credentials.into_iter().collect(), ..Self::default() };
        for (place, credential) in found.all.iter().enumerate() {
            found.by_username.entry(credential.username.clone()).or_default().push(place);
            found.by_fingerprint.entry(credential.fingerprint.clone()).or_default().push(place);
        }
        found
    }
}
