//! `purge`: what is cached of a group, a virtual registry or an upstream is forgotten.

use std::process::ExitCode;

use super::put;
use crate::args::Purge;

pub(super) async fn run(purge: Purge) -> ExitCode {
    let Purge { target, image, tag, digest, admin } = &purge;
    let pairs = [
        ("group", &target.group),
        ("registry", &target.registry),
        ("upstream", &target.upstream),
        ("image", image),
        ("tag", tag),
        ("digest", digest),
    ];
    let pairs = pairs.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?)));
    put(admin, "/purge", pairs).await
}
