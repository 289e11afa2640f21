//! Tokens: HS256 under a key that only replicas know, named by `kid`.
//!
//! Source: Docker token authentication specification, "jwt" and "scope".

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use config::Config;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use moka::sync::Cache;
use oci::Name;
use serde::{Deserialize, Serialize};

use super::{Caller, Identity, OwnKey, Refusal, random_hex};

/// The service's name in challenges and tokens, as GitLab has it.
pub const SERVICE: &str = "dependency_proxy";
/// How far the clocks of replicas may be apart.
const LEEWAY: Duration = Duration::from_secs(60);
/// How far ahead the clock of the replica that issued a token may be: a token is good before it was made.
const AHEAD: Duration = Duration::from_secs(10 * 60);
/// Memory for tokens that were verified.
const VERIFIED_BYTES: u64 = 16 * 1024 * 1024;
/// More scopes than any client asks for at once.
const MAX_SCOPES: usize = 64;

/// What a good token says.
#[derive(Clone, Debug)]
pub struct Issued {
    pub caller: Caller,
    /// The repositories it opens, as they are written in requests.
    pub repositories: Vec<String>,
    not_before: Timestamp,
    expires: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    exp: i64,
    nbf: i64,
    iat: i64,
    jti: String,
    access: Vec<Access>,
    /// Whether `sub` is a deploy token or a binding; else it is a user.
    machine: bool,
    /// Fingerprint of the credential.
    credential: String,
}

#[derive(Serialize, Deserialize)]
struct Access {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

/// Issues tokens and verifies them. Made anew when keys change, and with it the memory of verified tokens.
pub struct Signer {
    kid: String,
    encoding: EncodingKey,
    decoding: HashMap<String, DecodingKey>,
    verified: Cache<[u8; 32], Arc<Issued>>,
}

impl Signer {
    /// With the keys of the configuration, or the proxy's own where it has none.
    #[must_use]
    pub fn new(config: &Config, own: &OwnKey) -> Self {
        let keys = &config.instance.keys;
        let mut secrets: HashMap<&str, &[u8]> =
            keys.signing.iter().map(|(kid, secret)| (kid.as_str(), secret.expose().as_bytes())).collect();
        let kid = match &keys.current {
            Some(kid) if secrets.contains_key(kid.as_str()) => kid.as_str(),
            _ => {
                secrets.insert(&own.kid, own.secret.expose().as_bytes());
                own.kid.as_str()
            }
        };
        Self {
            kid: kid.to_owned(),
            encoding: EncodingKey::from_secret(secrets.get(kid).copied().unwrap_or_default()),
            decoding: secrets
                .into_iter()
                .map(|(kid, key)| (kid.to_owned(), DecodingKey::from_secret(key)))
                .collect(),
            verified: Cache::builder()
                .weigher(|_, issued: &Arc<Issued>| issued.weight())
                .max_capacity(VERIFIED_BYTES)
                .time_to_live(Duration::from_secs(3600))
                .build(),
        }
    }

    /// The key ids that are accepted; the first is signed with.
    #[must_use]
    pub fn kids(&self) -> Vec<&str> {
        let others = self.decoding.keys().map(String::as_str).filter(|kid| *kid != self.kid);
        std::iter::once(self.kid.as_str()).chain(others).collect()
    }

    /// Issues a token that opens these repositories for `ttl`.
    ///
    /// # Errors
    /// When it cannot be signed, which no input causes.
    pub fn issue(
        &self,
        caller: &Caller,
        repositories: &[Name],
        now: Timestamp,
        ttl: Duration,
    ) -> jsonwebtoken::errors::Result<String> {
        let access = |name: &Name| Access {
            kind: "repository".to_owned(),
            name: name.to_string(),
            actions: vec!["pull".to_owned()],
        };
        let iat = now.as_second();
        let claims = Claims {
            iss: SERVICE.to_owned(),
            sub: caller.identity.name().to_owned(),
            aud: SERVICE.to_owned(),
            exp: iat.saturating_add_unsigned(ttl.as_secs()),
            nbf: iat.saturating_sub_unsigned(AHEAD.as_secs()),
            iat,
            jti: random_hex::<16>(),
            access: repositories.iter().map(access).collect(),
            machine: matches!(caller.identity, Identity::Machine(_)),
            credential: caller.fingerprint.clone(),
        };
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &claims, &self.encoding)
    }

    /// Verifies a token.
    ///
    /// # Errors
    /// When it is not ours, not a token, or not good now.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Arc<Issued>, Refusal> {
        let key = hash(token);
        let issued = match self.verified.get(&key) {
            Some(issued) => issued,
            None => {
                let issued = Arc::new(self.decode(token)?);
                self.verified.insert(key, issued.clone());
                issued
            }
        };
        if now >= crate::clock::later(issued.expires, LEEWAY) {
            return Err(Refusal::TokenExpired);
        }
        if crate::clock::later(now, LEEWAY) < issued.not_before {
            return Err(Refusal::WrongCredentials);
        }
        Ok(issued)
    }

    fn decode(&self, token: &str) -> Result<Issued, Refusal> {
        let wrong = |_| Refusal::WrongCredentials;
        let header = jsonwebtoken::decode_header(token).map_err(wrong)?;
        // A key that the token brings along is nobody's (CVE-2025-24976): only `kid` chooses, among our own.
        let brings_key =
            header.jwk.is_some() || header.jku.is_some() || header.x5c.is_some() || header.x5u.is_some();
        let key = header.kid.filter(|_| !brings_key).and_then(|kid| self.decoding.get(&kid));
        let key = key.ok_or(Refusal::WrongCredentials)?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[SERVICE]);
        validation.set_issuer(&[SERVICE]);
        // The times are compared with our clock, which tests move.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &validation).map_err(wrong)?.claims;
        Issued::read(claims).ok_or(Refusal::WrongCredentials)
    }
}

impl Issued {
    /// Roughly the bytes it takes in memory.
    fn weight(&self) -> u32 {
        let names: usize = self.repositories.iter().map(|name| name.len() + 32).sum();
        u32::try_from(names + 256).unwrap_or(u32::MAX)
    }

    fn read(claims: Claims) -> Option<Self> {
        let of = if claims.machine { Identity::Machine } else { Identity::User };
        let pulls = |access: &Access| {
            access.kind == "repository" && access.actions.iter().any(|action| action == "pull")
        };
        Some(Self {
            caller: Caller { identity: of(claims.sub), fingerprint: claims.credential },
            repositories: claims.access.into_iter().filter(pulls).map(|access| access.name).collect(),
            not_before: Timestamp::from_second(claims.nbf).ok()?,
            expires: Timestamp::from_second(claims.exp).ok()?,
        })
    }
}

fn hash(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes()).as_ref());
    hash
}

/// The repositories of all well-formed scopes that ask for pull; others are left out, as the specification has it.
///
/// A scope is `type:name:actions`; the name may contain a colon (`host:5000/a`), which none of ours does.
#[must_use]
pub fn pull_scopes<'a>(scopes: impl IntoIterator<Item = &'a str>) -> Vec<Name> {
    let mut names = Vec::new();
    for scope in scopes.into_iter().flat_map(str::split_whitespace).take(MAX_SCOPES) {
        let Some((kind, rest)) = scope.split_once(':') else { continue };
        let Some((name, actions)) = rest.rsplit_once(':') else { continue };
        let pulls = actions.split(',').any(|action| action == "pull" || action == "*");
        if let ("repository", true, Ok(name)) = (kind, pulls, Name::parse(name))
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_well_formed_pull_scopes_count() {
        let read = |scopes: &[&str]| {
            pull_scopes(scopes.iter().copied()).iter().map(Name::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            read(&["repository:a/b:pull", "repository:c:pull,push repository:d:*"]),
            ["a/b", "c", "d"]
        );
        assert_eq!(
            read(&[
                "repository:a:push",
                "registry:catalog:*",
                "repository:../x:pull",
                "repository:A:pull",
                "x",
                "::"
            ]),
            [""; 0]
        );
        assert_eq!(read(&["repository:host:5000/a:pull", "repository:a:pull", "repository:a:pull"]), ["a"]);
    }

    proptest! {
        #[test]
        fn no_scope_makes_the_parser_panic(text in "\\PC{0,100}") {
            let _ = pull_scopes([text.as_str()]);
        }
    }
}
