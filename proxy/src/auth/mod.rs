//! Who asks, and whether they may: credentials and tokens, then roles. No HTTP in here beyond the header's value.

mod authz;
mod credentials;
mod key;
mod token;

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use config::{Config, PullCredential, Role};
use oci::Name;

pub use authz::{authorize, authorize_role, caller_named, role_of};
pub use credentials::Credentials;
pub use key::OwnKey;
pub use token::{Issued, SERVICE, Signer, pull_scopes};

/// Somebody whose credential was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub identity: Identity,
    /// Of the credential: a token issued for one that was withdrawn ends with it.
    pub fingerprint: String,
}

impl From<&PullCredential> for Caller {
    fn from(credential: &PullCredential) -> Self {
        let identity = Identity::Machine(credential.owner.to_string());
        Self { identity, fingerprint: credential.fingerprint.clone() }
    }
}

/// Who a caller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    User(String),
    /// A deploy token or a PullBinding, as sentences name it.
    Machine(String),
}

impl Identity {
    /// The name in sentences and logs.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::User(name) | Self::Machine(name) => name,
        }
    }
}

/// What a request presents, verified.
#[derive(Clone, Debug)]
pub enum Presented {
    /// User name and password, directly on the API.
    Password(Caller),
    /// A token, which opens what its scope says.
    Token(Arc<Issued>),
}

impl Presented {
    #[must_use]
    pub fn caller(&self) -> &Caller {
        match self {
            Self::Password(caller) => caller,
            Self::Token(issued) => &issued.caller,
        }
    }

    /// Whether it opens that repository; whether the caller has a role there is decided apart.
    #[must_use]
    pub fn opens(&self, name: &Name) -> bool {
        match self {
            Self::Password(_) => true,
            Self::Token(issued) => issued.repositories.iter().any(|open| open == name.as_str()),
        }
    }
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no credentials")]
    Anonymous,
    #[error("wrong or withdrawn credentials")]
    WrongCredentials,
    #[error("the token has expired")]
    TokenExpired,
    #[error("the token does not open this repository")]
    OtherScope,
    #[error("no such group, or no role in it")]
    NoRole { group: String, caller: String },
    #[error("the role is too low")]
    RoleTooLow { group: String, caller: String, needed: Role },
    #[error("too many sign-ins at once")]
    Busy,
    #[error("the deploy token may not pull")]
    NoPullScope { token: String },
}

/// The parts that verify what a request presents.
pub struct Auth {
    pub signer: Signer,
    pub credentials: Arc<Credentials>,
}

impl Auth {
    /// Verifies an `Authorization` header's value.
    ///
    /// # Errors
    /// When there is none, or it is not good.
    pub async fn verify(
        &self,
        config: &Config,
        header: Option<&[u8]>,
        now: jiff::Timestamp,
    ) -> Result<Presented, Refusal> {
        let header = header.ok_or(Refusal::Anonymous)?;
        let text = std::str::from_utf8(header).map_err(|_| Refusal::WrongCredentials)?;
        let (scheme, value) = text.trim().split_once(' ').ok_or(Refusal::WrongCredentials)?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.signer.verify(value.trim(), now).map(Presented::Token);
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let (user, password) = basic(value).ok_or(Refusal::WrongCredentials)?;
            return self.credentials.verify(config, &user, &password, now).await.map(Presented::Password);
        }
        Err(Refusal::WrongCredentials)
    }
}

/// RFC 7617: user name and password, parted by the first colon.
#[must_use]
pub fn basic(value: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(BASE64_STANDARD.decode(value.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// Bytes from the system's random number generator; `None` only where that fails.
fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(bytes)
}

/// A random text of that many bytes in hex, such as a token or a request's id.
#[must_use]
pub fn random_hex<const N: usize>() -> String {
    // The generator of the system does not fail on Linux once it has begun to work.
    random::<N>().map(hex::encode).unwrap_or_default()
}
