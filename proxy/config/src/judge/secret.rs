//! Secrets as what they are for. Problems name keys and line numbers, never values.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret as SecretDocument;

use super::reference::{document, refused};
use super::report::Report;
use super::set::Set;
use crate::{Document, Keys, Kind, ObjectId, Reason, S3Credentials, Secret, Severity, TokenHash, Users};

const BASIC_AUTH: &str = "kubernetes.io/basic-auth";
const TOKEN: &str = "dependencyproxy.dev/token";
const KEYS: &str = "dependencyproxy.dev/keys";
const CREDENTIALS: &str = "dependencyproxy.dev/credentials";

/// The least bytes that a signing key has: what HMAC-SHA256 gives (RFC 7518, 3.2).
const MIN_KEY_BYTES: usize = 32;

/// The costs of bcrypt that `htpasswd` makes; a higher one keeps a processor busy for minutes.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=17;

/// A Secret while it is read; its problems are reported as its own, and to whoever refers to it.
struct Opened<'r, 'd, 'a> {
    report: &'r mut Report<'d>,
    document: &'a Document,
    kind: &'a str,
    /// `stringData` wins over `data`, as in an API server.
    entries: BTreeMap<&'a str, (&'static str, &'a [u8])>,
    sound: bool,
}

/// A user name and a password.
pub(super) fn basic_auth(
    report: &mut Report<'_>,
    field: &str,
    set: &Set<'_>,
    id: &ObjectId,
) -> Option<(String, Secret)> {
    read(report, field, set, id, |secret| {
        secret.require_kind(&[BASIC_AUTH]);
        secret.require_exactly(&["username", "password"]);
        let username = secret.username();
        Some((username?, Secret::new(secret.password("password")?.to_owned())))
    })
}

/// A deploy token: its user name, and the hash of its password.
pub(super) fn token(
    report: &mut Report<'_>,
    field: &str,
    set: &Set<'_>,
    id: &ObjectId,
    instance_key: &[u8],
) -> Option<(String, TokenHash)> {
    read(report, field, set, id, |secret| {
        secret.require_kind(&[BASIC_AUTH, TOKEN]);
        if secret.kind == TOKEN {
            secret.require_exactly(&["username", "hash"]);
            let hash = secret.hash("hash");
            return Some((secret.username()?, hash?));
        }
        secret.require_exactly(&["username", "password"]);
        Some((secret.username()?, TokenHash::of(instance_key, secret.password("password")?)))
    })
}

/// What a PullBinding pulls with: during a rotation the credential before works beside the new one.
pub(super) struct Held {
    pub(super) username: String,
    /// With the time from which each works no longer.
    pub(super) hashes: Vec<(TokenHash, Option<Timestamp>)>,
}

/// A binding's credentials: `username`, and for each id `hash.<id>` as the operator renders it or `password.<id>` as it
/// keeps it, with `expires.<id>` where it has been superseded.
pub(super) fn credentials(
    report: &mut Report<'_>,
    field: &str,
    set: &Set<'_>,
    id: &ObjectId,
    instance_key: &[u8],
) -> Option<Held> {
    read(report, field, set, id, |secret| {
        secret.require_kind(&[CREDENTIALS]);
        let username = secret.username();
        let keys = secret.entries.keys().copied().filter(|key| *key != "username").collect::<Vec<_>>();
        let mut hashes = BTreeMap::new();
        for key in &keys {
            let (id, hash) = match key.split_once('.') {
                Some(("hash", id)) => (id, secret.hash(key)),
                Some(("password", id)) => {
                    (id, secret.password(key).map(|password| TokenHash::of(instance_key, password)))
                }
                Some(("expires", id)) if keys.contains(&format!("hash.{id}").as_str()) => continue,
                Some(("expires", id)) if keys.contains(&format!("password.{id}").as_str()) => continue,
                _ => {
                    let message =
                        "does not belong here; the keys are username, and hash.<id> with expires.<id>";
                    secret.error(key, message);
                    continue;
                }
            };
            let expires = format!("expires.{id}");
            let expires_at = secret.entries.contains_key(expires.as_str()).then(|| secret.time(&expires));
            if let (Some(hash), None | Some(Some(_))) = (hash, expires_at)
                && hashes.insert(id, (hash, expires_at.flatten())).is_some()
            {
                secret.error(key, "is there as hash and as password; take one out");
            }
        }
        if keys.is_empty() {
            secret.error("hash.<id>", "is required; add at least one");
        }
        Some(Held { username: username?, hashes: hashes.into_values().collect() })
    })
}

/// Static users: an htpasswd file. A bad line is named and left out; the other users hold.
pub(super) fn users(report: &mut Report<'_>, field: &str, set: &Set<'_>, id: &ObjectId) -> Option<Users> {
    read(report, field, set, id, |secret| {
        let text = secret.text("users")?;
        let mut hashes = HashMap::new();
        for (index, line) in
            text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#'))
        {
            match htpasswd(line.trim_end()) {
                Ok((name, _)) if hashes.contains_key(name) => {
                    secret.line(index + 1, "names a user of an earlier line; take one out")
                }
                Ok((name, hash)) => {
                    hashes.insert(name.to_owned(), Secret::new(hash.to_owned()));
                }
                Err(message) => secret.line(index + 1, message),
            }
        }
        Some(Users { hashes })
    })
}

/// User name and hash of a line of an htpasswd file.
fn htpasswd(line: &str) -> Result<(&str, &str), &'static str> {
    let (name, hash) = line.split_once(':').ok_or("must be name:hash; make it with htpasswd -nB NAME")?;
    if name.is_empty() {
        return Err("must begin with a user name; make it with htpasswd -nB NAME");
    }
    let bcrypt = ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|p| hash.starts_with(p)) && hash.len() == 60;
    if !bcrypt {
        return Err("must be a bcrypt hash, other kinds are not accepted; make it with htpasswd -nB NAME");
    }
    let cost = hash.get(4..6).and_then(|c| c.parse::<u32>().ok());
    let salted = hash.get(6..7) == Some("$")
        && hash[7..].bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/');
    match cost {
        Some(cost) if salted && BCRYPT_COSTS.contains(&cost) => Ok((name, hash)),
        _ => Err("must be a bcrypt hash of cost 4 to 17; make it with htpasswd -nB NAME"),
    }
}

/// The instance's keys, as the operator writes them.
pub(super) fn keys(report: &mut Report<'_>, field: &str, set: &Set<'_>, id: &ObjectId) -> Option<Keys> {
    read(report, field, set, id, |secret| {
        secret.require_kind(&[KEYS]);
        let mut signing = BTreeMap::new();
        let names = secret.entries.keys().filter_map(|k| k.strip_prefix("signing.")).collect::<Vec<_>>();
        for kid in names {
            let key = secret.text(&format!("signing.{kid}"))?;
            if key.len() < MIN_KEY_BYTES {
                secret.error(&format!("signing.{kid}"), "must have at least 32 bytes");
            }
            signing.insert(kid.to_owned(), Secret::new(key.to_owned()));
        }
        let instance = secret.bytes("instance")?.to_vec();
        if instance.len() < MIN_KEY_BYTES {
            secret.error("instance", "must have at least 32 bytes");
        }
        let current = secret.text("current")?.trim().to_owned();
        if !signing.contains_key(&current) {
            secret.error("current", "must be the id of a key that is there as signing.<id>");
        }
        let replica = match secret.entries.contains_key("replica") {
            true => Some(secret.text("replica")?.trim().to_owned()),
            false => None,
        };
        if replica.as_ref().is_some_and(|key| key.len() < MIN_KEY_BYTES) {
            secret.error("replica", "must have at least 32 bytes");
        }
        let replica = replica.map(Secret::new);
        Some(Keys { instance, signing, current: Some(current), replica })
    })
}

/// Credentials of an S3 account, under our names or those of the AWS environment variables.
pub(super) fn s3(
    report: &mut Report<'_>,
    field: &str,
    set: &Set<'_>,
    id: &ObjectId,
) -> Option<S3Credentials> {
    read(report, field, set, id, |secret| {
        let either = |secret: &Opened<'_, '_, '_>, ours: &'static str, aws: &'static str| {
            if secret.entries.contains_key(aws) { aws } else { ours }
        };
        let token = either(secret, "sessionToken", "AWS_SESSION_TOKEN");
        let access = secret.text(either(secret, "accessKeyID", "AWS_ACCESS_KEY_ID")).map(str::to_owned);
        let key = secret.text(either(secret, "secretAccessKey", "AWS_SECRET_ACCESS_KEY"));
        let key = key.map(|k| Secret::new(k.trim().to_owned()));
        let session_token = match secret.entries.contains_key(token) {
            true => Some(Secret::new(secret.text(token)?.trim().to_owned())),
            false => None,
        };
        Some(S3Credentials {
            access_key_id: access?.trim().to_owned(),
            secret_access_key: key?,
            session_token,
        })
    })
}

/// A problem of another document than the one that is judged.
pub(super) fn blame(report: &mut Report<'_>, document: &Document, field: &str, message: &str) {
    report.problems.push(document.problem(Severity::Error, field, message));
}

fn read<T>(
    report: &mut Report<'_>,
    field: &str,
    set: &Set<'_>,
    id: &ObjectId,
    take: impl FnOnce(&mut Opened<'_, '_, '_>) -> Option<T>,
) -> Option<T> {
    let (document, object) = document::<SecretDocument>(report, field, set, id)?;
    let data = object.data.iter().flatten().map(|(k, v)| (k.as_str(), ("data", v.0.as_slice())));
    let strings =
        object.string_data.iter().flatten().map(|(k, v)| (k.as_str(), ("stringData", v.as_bytes())));
    let entries = data.chain(strings).collect();
    let kind = object.type_.as_deref().unwrap_or("Opaque");
    let mut opened = Opened { report, document, kind, entries, sound: true };
    let taken = take(&mut opened);
    if opened.sound && taken.is_some() {
        return taken;
    }
    report.fault_for(Reason::InvalidSecret, field, refused(Kind::Secret, id));
    None
}

impl<'a> Opened<'_, '_, 'a> {
    fn error(&mut self, key: &str, message: &str) {
        self.sound = false;
        let place = self.entries.get(key).map_or("stringData", |(place, _)| place);
        blame(self.report, self.document, &format!("{place}.{key}"), message);
    }

    /// A problem that leaves the Secret usable: one line of a file.
    fn line(&mut self, number: usize, message: &str) {
        let place = self.entries.get("users").map_or("stringData", |(place, _)| place);
        blame(self.report, self.document, &format!("{place}.users"), &format!("line {number} {message}"));
    }

    fn require_kind(&mut self, kinds: &[&str]) {
        if !kinds.contains(&self.kind) {
            self.sound = false;
            blame(self.report, self.document, "type", &format!("must be {}", kinds.join(" or ")));
        }
    }

    fn require_exactly(&mut self, keys: &[&str]) {
        let others = self.entries.keys().filter(|k| !keys.contains(k)).copied().collect::<Vec<_>>();
        for key in others {
            self.error(key, &format!("does not belong here; the keys are {}", keys.join(" and ")));
        }
    }

    fn bytes(&mut self, key: &str) -> Option<&'a [u8]> {
        match self.entries.get(key) {
            Some((_, value)) if !value.is_empty() => Some(value),
            Some(_) => {
                self.error(key, "must not be empty");
                None
            }
            None => {
                self.error(key, "is required; add it");
                None
            }
        }
    }

    fn text(&mut self, key: &str) -> Option<&'a str> {
        let text = std::str::from_utf8(self.bytes(key)?).ok();
        if text.is_none() {
            self.error(key, "must be text");
        }
        text
    }

    /// The hash of a token, as the operator renders it.
    fn hash(&mut self, key: &str) -> Option<TokenHash> {
        let hash = TokenHash::from_hex(self.text(key)?);
        if hash.is_none() {
            self.error(key, "must be 64 hex digits");
        }
        hash
    }

    fn time(&mut self, key: &str) -> Option<Timestamp> {
        let time = self.text(key)?.trim().parse().ok();
        if time.is_none() {
            self.error(key, "must be a time such as 2030-01-31T00:00:00Z");
        }
        time
    }

    /// A user name that can stand in Basic credentials (RFC 7617, 2).
    fn username(&mut self) -> Option<String> {
        let name = self.text("username")?;
        if name.contains(|c: char| c == ':' || c.is_control()) {
            self.error("username", "must have no colon and no line end; write it without one");
        }
        Some(name.to_owned())
    }

    /// A password that can stand in Basic credentials. A line end at its end is a common slip of `echo | base64`.
    fn password(&mut self, key: &str) -> Option<&'a str> {
        let password = self.text(key)?;
        if password.contains(char::is_control) {
            self.error(key, "must have no line end and no control character; write it without one");
        }
        Some(password)
    }
}
