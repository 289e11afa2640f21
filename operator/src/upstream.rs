//! RegistryUpstream: its status, from what the judge and the pods say.

use std::sync::Arc;
use std::time::Duration;

use config::Kind;
use crds::{RegistryUpstream, RegistryUpstreamStatus};
use kube::runtime::controller::Action;

use crate::condition::{Conditions, State};
use crate::context::{Context, Error};
use crate::pods::{RateLimit, UpstreamReport};
use crate::purge::purge;
use crate::verdict::{is_too_early, write};
use crate::world::{Facts, Verdict, id_of};

/// Says what is true of an upstream.
///
/// # Errors
/// When the API server refuses; it is tried again.
pub async fn reconcile(upstream: Arc<RegistryUpstream>, context: Arc<Context>) -> Result<Action, Error> {
    let key = (Kind::RegistryUpstream, id_of(upstream.as_ref()));
    let verdict = context.world.borrow().verdicts.get(&key).cloned();
    let Some(verdict) = verdict.filter(|verdict| verdict.generation == upstream.metadata.generation) else {
        return Ok(Action::requeue(Duration::from_secs(1)));
    };
    if is_too_early(&verdict, upstream.status.as_ref().and_then(|status| status.observed_generation)) {
        return Ok(Action::await_change());
    }
    let before = upstream.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let mut conditions = Conditions::of(before, upstream.metadata.generation, context.now());
    accepted(&mut conditions, &verdict);
    let (account, health) = match &verdict.facts {
        Facts::Upstream { account, health } => (account.clone(), health.clone()),
        _ => (String::new(), None),
    };
    known(&mut conditions, &verdict, health.as_ref());
    let is_judged = health.as_ref().is_some_and(|health| health.credentials_valid.is_some());
    if account == "anonymous" && !is_judged {
        conditions.set("CredentialsValid", State::True, "Anonymous", "it is asked without an account");
    }
    let ready = conditions.sum_up(&["Accepted", "CredentialsValid", "Reachable"], "Reachable", "it answers");
    let done = upstream.status.as_ref().map(|status| status.purged.clone()).unwrap_or_default();
    let (purged, next) =
        purge(upstream.as_ref(), Kind::RegistryUpstream, done, &mut conditions, &context).await;
    let status = RegistryUpstreamStatus {
        observed_generation: upstream.metadata.generation,
        ready: Some(ready),
        account: Some(account).filter(|account| !account.is_empty()),
        limit: health.and_then(|health| health.rate_limit).map(|limit| limit_text(&limit)),
        purged,
        conditions: conditions.finish(),
    };
    let now = status.conditions.clone();
    write(upstream.as_ref(), upstream.status.as_ref(), &status, (before, &now), &context).await?;
    Ok(next)
}

fn accepted(conditions: &mut Conditions, verdict: &Verdict) {
    match verdict.problems.first() {
        None => conditions.set("Accepted", State::True, "Accepted", ""),
        Some(problem) => {
            let message = crate::instance::sentences(&verdict.problems);
            conditions.set("Accepted", State::False, &problem.reason.to_string(), message);
        }
    }
}

/// What pods know. Who is not asked is neither reachable nor unreachable.
fn known(conditions: &mut Conditions, verdict: &Verdict, health: Option<&UpstreamReport>) {
    let unknown = if verdict.instance.is_none() {
        ("NotInUse", "no group and no virtual registry refers to it")
    } else {
        ("Pending", "no pod has asked it yet")
    };
    let mut say = |kind: &str, state: Option<bool>, well: &str| {
        let text = |text: Option<&String>, default: &str| text.cloned().unwrap_or_else(|| default.to_owned());
        match (state, health) {
            (Some(true), _) => conditions.set(kind, State::True, well, ""),
            (Some(false), Some(health)) => {
                let reason = text(health.reason.as_ref(), "Unreachable");
                conditions.set(kind, State::False, &reason, text(health.message.as_ref(), ""));
            }
            _ => conditions.set(kind, State::Unknown, unknown.0, unknown.1),
        }
    };
    say("Reachable", health.and_then(|health| health.reachable), "Reachable");
    say("CredentialsValid", health.and_then(|health| health.credentials_valid), "Valid");
}

/// Such as `200/6h`.
fn limit_text(limit: &RateLimit) -> String {
    let window = limit.window_seconds.map(|seconds| match seconds {
        s if s % 3600 == 0 => format!("/{}h", s / 3600),
        s if s % 60 == 0 => format!("/{}min", s / 60),
        s => format!("/{s}s"),
    });
    format!("{}{}", limit.limit, window.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_reads_as_people_say_it() {
        let limit = |limit, window_seconds| limit_text(&RateLimit { limit, window_seconds });
        assert_eq!(limit(200, Some(21600)), "200/6h");
        assert_eq!(limit(100, Some(90)), "100/90s");
        assert_eq!(limit(100, None), "100");
    }
}
