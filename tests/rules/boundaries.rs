//! Which crate and room may use which (ARCHITECTURE.md, "Rooms"), with the reason in the failure.

use crate::tree::{code, crates, files, product, text};

const OURS: [&str; 4] =
    ["dependency-proxy", "dependency-proxy-config", "dependency-proxy-crds", "dependency-proxy-oci"];

/// Rust files of the product that are longer than 400 lines without their tests, and why.
const LONG: [(&str, &str); 0] = [];

/// Asserts that no product code below these folders contains any of these words, other than where it is allowed.
#[track_caller]
fn absent(folders: &[&str], words: &[&str], allowed: &[&str], reason: &str) {
    let mut found = Vec::new();
    for (path, source) in
        code(folders).iter().filter(|(path, _)| !allowed.iter().any(|a| path.starts_with(a)))
    {
        for (number, line) in source.lines().enumerate() {
            found.extend(
                words
                    .iter()
                    .filter(|word| line.contains(**word))
                    .map(|word| format!("{path}:{} uses {word}", number + 1)),
            );
        }
    }
    assert!(found.is_empty(), "{}\n{reason}", found.join("\n"));
}

#[test]
fn our_crates_use_each_other_in_one_direction_only() {
    let reason =
        "oci and crds know nobody, config knows both, proxy knows config: what is pure stays testable alone";
    for (name, may) in [
        ("dependency-proxy-oci", &[][..]),
        ("dependency-proxy-crds", &[]),
        ("dependency-proxy-config", &["dependency-proxy-crds", "dependency-proxy-oci"]),
        ("dependency-proxy", &["dependency-proxy-config", "dependency-proxy-oci"]),
    ] {
        let direct = crates(&["--package", name, "--edges", "normal,build", "--depth", "1"]);
        let ours = direct.iter().filter(|c| *c != name && OURS.contains(&c.as_str())).collect::<Vec<_>>();
        assert!(ours.iter().all(|c| may.contains(&c.as_str())), "{name} depends on {ours:?}. {reason}");
    }
}

#[test]
fn the_proxy_has_no_kubernetes_client() {
    let all = crates(&["--package", "dependency-proxy", "--edges", "normal,build"]);
    for banned in ["kube-client", "kube-runtime"] {
        let reason = "proxy pods get no access to the API server: documents reach them as files";
        assert!(!all.contains(banned), "proxy depends on {banned}: {reason}");
    }
}

#[test]
fn the_judge_and_the_names_do_no_input_and_output() {
    for name in ["dependency-proxy-config", "dependency-proxy-oci", "dependency-proxy-crds"] {
        let all = crates(&["--package", name, "--edges", "normal,build"]);
        for banned in ["tokio", "reqwest", "hyper", "axum", "object_store"] {
            let reason = "the operator judges with the same functions, without a network of theirs";
            assert!(!all.contains(banned), "{name} depends on {banned}: {reason}");
        }
    }
}

#[test]
fn pure_modules_have_no_tasks_no_files_and_no_clock() {
    let pure = [
        "proxy/oci/src",
        "proxy/config/src",
        "crds/src",
        "proxy/src/resolve.rs",
        "proxy/src/auth/authz.rs",
        "proxy/src/cache/fresh.rs",
        "proxy/src/documents/settle.rs",
    ];
    let words = [
        "tokio",
        "std::fs",
        "std::net::Tcp",
        "Instant",
        "SystemTime",
        "Clock",
        "Timestamp::now",
        ".now()",
        "async ",
    ];
    let reason = "pure modules get time and texts as arguments, so that a test is a table";
    absent(&pure, &words, &["crds/src/bin"], reason);
}

#[test]
fn http_frameworks_stay_in_the_http_rooms() {
    let rooms = ["proxy/src/http/", "proxy/src/admin.rs", "proxy/src/run.rs"];
    let reason = "axum and hyper are in http/ and admin.rs only: what is served must not know how";
    absent(&["proxy/src"], &["axum::", "hyper::", "hyper_util::"], &rooms, reason);
    let run = product(&text("proxy/src/run.rs"));
    let lines =
        run.lines().filter(|line| line.contains("axum") || line.contains("hyper")).collect::<Vec<_>>();
    assert!(
        matches!(lines.as_slice(), [line] if line.contains("axum::serve(")),
        "run.rs may start the second port and no more: {lines:?}"
    );
}

#[test]
fn nothing_calls_upwards() {
    let reason = "an arrow of a request's way is an argument or a return value, never a callback upward";
    let rooms = ["auth", "resolve.rs", "cache", "upstream", "store"].map(|room| format!("proxy/src/{room}"));
    let rooms = rooms.each_ref().map(String::as_str);
    absent(&rooms, &["crate::http", "crate::admin", "crate::run", "crate::command"], &[], reason);
    absent(&["proxy/src/auth", "proxy/src/resolve.rs"], &["crate::cache", "crate::upstream"], &[], reason);
}

#[test]
fn upstream_and_store_do_not_know_each_other() {
    let reason = "only the cache knows both: so a fault of one is never taken for a fault of the other";
    absent(&["proxy/src/upstream"], &["crate::store", "crate::cache", "object_store"], &[], reason);
    absent(&["proxy/src/store"], &["crate::upstream", "crate::cache", "reqwest"], &[], reason);
}

#[test]
fn only_commands_print() {
    let words = ["println!", "eprintln!", "print!("];
    let reason =
        "the log goes through tracing, where its level can be changed; answers of commands are command/'s";
    absent(&["proxy/", "crds/"], &words, &["proxy/src/command/", "crds/src/bin/"], reason);
}

#[test]
fn only_the_key_module_knows_paths_of_the_store() {
    let reason =
        "store/key.rs is the one place that builds keys, out of parsed types: no text of a client's gets in";
    absent(
        &["proxy/src"],
        &["\"_links", "\"_tags", "\"_fills", "blobs/sha256"],
        &["proxy/src/store/key.rs"],
        reason,
    );
}

#[test]
fn there_is_one_tls_stack_and_one_cryptography_library() {
    let all = crates(&["--workspace", "--edges", "all"]);
    for banned in ["ring", "openssl", "openssl-sys", "native-tls", "boring", "rsa"] {
        assert!(
            !all.contains(banned),
            "{banned} is in the tree: TLS is rustls, cryptography is aws-lc-rs, once"
        );
    }
    assert!(all.contains("aws-lc-rs") && all.contains("rustls"), "the rule looks at nothing: {all:?}");
}

#[test]
fn dependencies_are_newer_than_their_known_faults() {
    let lock = text("Cargo.lock");
    for (name, least, advisory) in [
        ("h2", [0, 4, 16], "RUSTSEC-2026-0258, RUSTSEC-2024-0332"),
        ("rustls-webpki", [0, 103, 13], "RUSTSEC-2026-0104, RUSTSEC-2026-0049"),
        ("axum-core", [0, 3, 0], "RUSTSEC-2022-0055"),
        ("object_store", [0, 10, 2], "RUSTSEC-2024-0358"),
    ] {
        let entry = format!("name = \"{name}\"\nversion = \"");
        let versions = lock.split(&entry).skip(1).map(|rest| rest.split('"').next().unwrap_or_default());
        for version in versions {
            let number = version.split(['.', '-', '+']).take(3).map(|part| part.parse::<u32>().unwrap());
            let number = number.collect::<Vec<_>>();
            assert!(number.as_slice() >= &least[..], "{name} {version} has {advisory}: {least:?} mends it");
        }
    }
    assert!(lock.contains("name = \"rustls-webpki\""), "the rule looks at nothing");
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    // In two parts each, or this file would break its own rule.
    let places = [("/wo", "rk/"), ("/tm", "p/"), ("/ro", "ot/"), ("/ho", "me/")];
    let words = places.iter().map(|(one, other)| format!("{one}{other}")).collect::<Vec<_>>();
    for path in files().iter().filter(|path| *path != "Cargo.lock" && *path != "LICENSE") {
        let Ok(text) = std::fs::read_to_string(crate::tree::root().join(path)) else { continue };
        for (number, line) in text.lines().enumerate() {
            let found = words.iter().find(|word| line.contains(word.as_str()));
            assert!(found.is_none(), "{path}:{} names {found:?}: it is somebody's own", number + 1);
        }
    }
}

#[test]
fn files_are_short_or_say_why() {
    let long = code(&["proxy/", "crds/"]).into_iter().filter(|(_, source)| source.lines().count() > 400);
    for (path, source) in long {
        let lines = source.lines().count();
        let excused = LONG.iter().any(|(known, _)| *known == path);
        assert!(
            excused,
            "{path} has {lines} lines: one room, one job; divide it, or add it to LONG with the reason"
        );
    }
    for (path, _) in LONG {
        let lines = product(&text(path)).lines().count();
        assert!(lines > 400, "{path} has {lines} lines now: take it out of LONG");
    }
}
