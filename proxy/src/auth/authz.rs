//! Whether a caller may pull in a group, by the documents as they are now. Pure.

use config::{Config, DeployToken, Group, Role, Subject};
use jiff::Timestamp;

use super::credentials::{token_is_good, user_fingerprint};
use super::{Caller, Identity, Refusal};
use crate::resolve::Lead;

/// Decides whether a caller may pull what a name leads to.
///
/// # Errors
/// That there is no such group and that the caller has no role in it is one and the same refusal.
pub fn authorize(config: &Config, caller: &Caller, lead: &Lead, now: Timestamp) -> Result<(), Refusal> {
    still_good(config, caller, now)?;
    let (Lead::Route { written, .. } | Lead::Unknown(written)) = lead;
    let no_role = || Refusal::NoRole { group: written.clone(), caller: caller.identity.name().to_owned() };
    let Lead::Route { route, .. } = lead else { return Err(no_role()) };
    let path = route.group().path.as_str();
    match &caller.identity {
        Identity::User(name) => {
            let role = role_of(config, path, name);
            if role >= Some(Role::Guest) { Ok(()) } else { Err(no_role()) }
        }
        Identity::DeployToken(name) => {
            // The same credential may be good in another group and have expired in this one.
            let tokens = config.lineage(path).flat_map(|group| deploy_tokens(group, caller));
            let mut tokens = tokens.filter(|token| token_is_good(token, now)).peekable();
            if tokens.peek().is_none() {
                return Err(no_role());
            }
            if tokens.any(|token| token.reads) {
                Ok(())
            } else {
                Err(Refusal::NoPullScope { token: name.clone() })
            }
        }
    }
}

/// Whether the credential behind a token or a remembered password still exists as it was.
pub(super) fn still_good(config: &Config, caller: &Caller, now: Timestamp) -> Result<(), Refusal> {
    let good = match &caller.identity {
        Identity::User(name) => {
            user_fingerprint(config, name).is_some_and(|fingerprint| fingerprint == caller.fingerprint)
        }
        Identity::DeployToken(_) => {
            let mut tokens = config.groups.values().flat_map(|group| deploy_tokens(group, caller));
            tokens.any(|token| token_is_good(token, now))
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
    config.lineage(path).chain(config.groups.values()).find_map(|group| {
        let token = group.deploy_tokens.iter().find(|token| token.username == user)?;
        let identity = Identity::DeployToken(token.name.clone());
        Some(Caller { identity, fingerprint: token.fingerprint.clone() })
    })
}

/// A group's tokens with the credential that the caller showed: one Secret may serve several groups.
fn deploy_tokens<'a>(group: &'a Group, caller: &'a Caller) -> impl Iterator<Item = &'a DeployToken> {
    group.deploy_tokens.iter().filter(|token| token.fingerprint == caller.fingerprint)
}
