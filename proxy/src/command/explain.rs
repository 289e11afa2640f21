//! `explain`: what a pull would do, step by step, from the same functions that do it.

use std::process::ExitCode;

use config::{Config, Refusal, Role, Upstream};
use jiff::Timestamp;
use oci::{Name, Reference};
use prometheus_client::registry::Registry;

use super::empty_folder;
use crate::args::Explain;
use crate::auth::{authorize, caller_named, role_of};
use crate::cache::Validity;
use crate::clock::Clock;
use crate::documents::{Settled, read, settle};
use crate::metrics::Metrics;
use crate::resolve::{self, Lead, Source, Target};
use crate::store::Store;

pub(super) async fn run(explain: Explain) -> ExitCode {
    let mut paths = explain.documents.file.clone();
    if paths.is_empty() {
        paths.push(explain.data_dir.join("default.yaml"));
    }
    let settled =
        settle(read(&paths), &Settled::nothing(), &crate::run::options(explain.documents.instance.clone()));
    for problem in &settled.problems {
        eprintln!("{problem}");
    }
    let Some(config) = settled.config else { return ExitCode::FAILURE };
    match steps(&config, &explain).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("refused   {why}");
            ExitCode::FAILURE
        }
    }
}

async fn steps(config: &Config, explain: &Explain) -> Result<(), String> {
    let (name, reference) = split(&explain.image)?;
    let host = explain.image.split_once('/').map(|(host, _)| host.to_ascii_lowercase());
    println!("image     {name}, {reference}");
    let lead = resolve::lead(config, host.as_deref(), &name);
    if matches!(lead, Lead::Unknown(_)) && !resolve::has_form(&name) {
        return Err(resolve::NAMES.to_owned());
    }
    if let Some(user) = &explain.user {
        tell_role(config, &lead, user)?;
    }
    let (route, image) = match lead {
        Lead::Route { route, image, .. } => (route, image),
        Lead::Unknown(path) => return Err(format!("There is no group or virtual registry \"{path}\".")),
    };
    println!("group     {} ({})", route.group().path, route.group().id);
    let target = resolve::resolve(config, &route, &image, None).map_err(|error| error.to_string())?;
    let folder = empty_folder(&explain.data_dir)?;
    let metrics = Metrics::new(&mut Registry::default());
    let store =
        Store::look_into(&config.instance, &explain.data_dir, folder.path(), metrics, Clock::system());
    let store = store.map_err(|error| error.to_string())?;
    let mut refusals = Vec::new();
    for source in &target.sources {
        println!("upstream  {} asks {} for {}", source.upstream.id, source.upstream.url, source.repository);
        match rule(&source.upstream, &source.repository) {
            Some(why) => refusals.push(why),
            None => tell_cached(&store, &target, source, &reference).await,
        }
    }
    // One upstream that may deliver is enough.
    if refusals.len() == target.sources.len() { Err(refusals.join(" ")) } else { Ok(()) }
}

fn tell_role(config: &Config, lead: &Lead, user: &str) -> Result<(), String> {
    let path = lead.group().map_or("", |group| group.path.as_str());
    let caller = caller_named(config, path, user)
        .ok_or_else(|| format!("There is no user, deploy token or binding \"{user}\"."))?;
    authorize(config, &caller, lead.group(), lead.written(), Clock::system().now())
        .map_err(|refusal| format!("{user}: {refusal}."))?;
    match role_of(config, path, user) {
        Some(role) => println!("role      {user} is {}", role_name(role)),
        None => println!("role      {user} is a deploy token or binding of the group or a parent"),
    }
    Ok(())
}

fn rule(upstream: &Upstream, repository: &Name) -> Option<String> {
    match upstream.refusal(repository) {
        None if upstream.rules.is_empty() => None,
        None => {
            println!("rule      {} rules, none refuses it", upstream.rules.len());
            None
        }
        Some(refusal) => {
            let upstream = &upstream.id.name;
            let why = match refusal {
                Refusal::Denied(name) => {
                    format!("Rule \"{name}\" of upstream {upstream} refuses this repository.")
                }
                Refusal::NotAllowed => {
                    format!("No allow rule of upstream {upstream} matches this repository.")
                }
            };
            println!("rule      {why}");
            Some(why)
        }
    }
}

async fn tell_cached(store: &Store, target: &Target, source: &Source, reference: &Reference) {
    let holder = target.holder(source);
    let tag = match reference {
        Reference::Tag(tag) => tag,
        Reference::Digest(digest) => {
            let cached = matches!(store.link(digest, &holder).await, Ok(Some(_)));
            println!("cached    {}", if cached { "yes; a digest never changes" } else { "no" });
            return;
        }
    };
    let Ok(Some(record)) = store.tag(&holder, tag).await else {
        println!("cached    no");
        return;
    };
    println!("cached    {} checked at {}", record.digest, record.checked_at);
    let fresh = match Validity::of(target, &source.upstream) {
        Validity::None => "no: upstream is asked before every answer (recheckAfterSeconds: 0)".to_owned(),
        Validity::Forever => "for ever (cacheValidityHours: 0)".to_owned(),
        Validity::For(validity) => until(record.checked_at, validity),
    };
    println!("fresh     {fresh}");
}

fn until(checked_at: Timestamp, validity: std::time::Duration) -> String {
    let until = crate::clock::later(checked_at, validity);
    let word = if until > Clock::system().now() { "until" } else { "no: it was until" };
    format!("{word} {until}")
}

/// `[HOST/]name[:tag][@digest]`; a host has a dot, a colon or is `localhost`, as Docker has it.
fn split(image: &str) -> Result<(Name, Reference), String> {
    let rest = match image.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => rest,
        _ => image,
    };
    let (name, reference) = match rest.split_once('@') {
        Some((name, digest)) => (name.rsplit_once(':').map_or(name, |(name, _)| name), digest),
        None => rest.rsplit_once(':').unwrap_or((rest, "latest")),
    };
    let name = Name::parse(name).map_err(|error| format!("{name}: {error}"))?;
    let reference = Reference::parse(reference).map_err(|error| format!("{reference}: {error}"))?;
    Ok((name, reference))
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Guest => "Guest",
        Role::Reporter => "Reporter",
        Role::Developer => "Developer",
        Role::Maintainer => "Maintainer",
        Role::Owner => "Owner",
    }
}
