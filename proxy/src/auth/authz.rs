//! Whether a caller may pull in a group, by the documents as they are now. Pure.

use config::{Config, Group, Role, Subject};
use jiff::Timestamp;

use super::credentials::user_fingerprint;
use super::{Caller, Identity, Refusal};

/// Decides whether a caller may pull in a group, if there is one. `written`: what stands for it in the request.
///
/// # Errors
/// That there is no such group and that the caller has no role in it is one and the same refusal.
pub fn authorize(
    config: &Config,
    caller: &Caller,
    group: Option<&Group>,
    written: &str,
    now: Timestamp,
) -> Result<(), Refusal> {
    still_good(config, caller, now)?;
    let no_role = || Refusal::NoRole { group: written.to_owned(), caller: caller.identity.name().to_owned() };
    let path = group.ok_or_else(no_role)?.path.as_str();
    match &caller.identity {
        Identity::User(name) => {
            let role = role_of(config, path, name);
            if role >= Some(Role::Guest) { Ok(()) } else { Err(no_role()) }
        }
        Identity::Machine(name) => {
            // The same credential may be good in another group and have expired in this one.
            let credentials = config.credentials.with_fingerprint(&caller.fingerprint);
            let mut good = credentials.filter(|c| c.counts_in(path) && c.is_good(now)).peekable();
            if good.peek().is_none() {
                return Err(no_role());
            }
            if good.any(|credential| credential.reads) {
                Ok(())
            } else {
                Err(Refusal::NoPullScope { token: name.clone() })
            }
        }
    }
}

/// Decides whether a caller has a role, such as purging takes.
///
/// # Errors
/// As for [`authorize`]; who may pull there is told what is missing. Deploy tokens and bindings have no role.
pub fn authorize_role(
    config: &Config,
    caller: &Caller,
    group: Option<&Group>,
    written: &str,
    needed: Role,
    now: Timestamp,
) -> Result<(), Refusal> {
    authorize(config, caller, group, written, now)?;
    let path = group.map_or(written, |group| group.path.as_str());
    let role = match &caller.identity {
        Identity::User(name) => role_of(config, path, name),
        Identity::Machine(_) => None,
    };
    if role >= Some(needed) {
        return Ok(());
    }
    let caller = caller.identity.name().to_owned();
    Err(Refusal::RoleTooLow { group: path.to_owned(), caller, needed })
}

/// Whether the credential behind a token or a remembered password still exists as it was.
pub(super) fn still_good(config: &Config, caller: &Caller, now: Timestamp) -> Result<(), Refusal> {
    let good = match &caller.identity {
        Identity::User(name) => {
            user_fingerprint(config, name).is_some_and(|fingerprint| fingerprint == caller.fingerprint)
        }
        Identity::Machine(_) => {
            config.credentials.with_fingerprint(&caller.fingerprint).any(|credential| credential.is_good(now))
        }
    };
    if good { Ok(()) } else { Err(Refusal::WrongCredentials) }
}

/// The highest role of a user in a group or one of its parents.
#[must_use]
pub fn role_of(config: &Config, path: &str, user: &str) -> Option<Role> {
    let members = config.lineage(path).flat_map(|group| &group.members);
    members
        .filter(|member| matches!(&member.subject, Subject::User(name) if name == user))
        .map(|member| member.role)
        .max()
}

/// Who a user name belongs to, without a password: for explanations only. Several groups may have a deploy token of
/// that name: the one of this path is meant, if it has one.
#[must_use]
pub fn caller_named(config: &Config, path: &str, user: &str) -> Option<Caller> {
    if let Some(fingerprint) = user_fingerprint(config, user) {
        return Some(Caller { identity: Identity::User(user.to_owned()), fingerprint });
    }
    // Of those that count here the nearest group's.
    let nearest = config.credentials.named(user).max_by_key(|c| (c.counts_in(path), c.group.len()));
    nearest.map(Caller::from)
}
