//! `tests/advisories.md`: no identifier is missing, and no test that it names.

use std::collections::BTreeSet;

use crate::tree::{root, text};

/// What was published for registries, pull-through caches, their clients and the libraries that we use.
const KNOWN: &str = "
    CVE-2026-33540 GHSA-3p65-76g6-3w7r CVE-2026-48978 GHSA-xf85-363p-868w GHSA-vh4v-2xq2-g5cg CVE-2026-49349
    GHSA-qvqc-4c52-x6qp CVE-2026-50151 GHSA-jxpm-75mh-9fp7 CVE-2020-15157 GHSA-742w-89gc-8m9c CVE-2021-32690
    CVE-2021-41092 moby#30880 moby#42022 CVE-2026-32591 CVE-2026-2376 CVE-2026-0600 CVE-2020-13788 CVE-2025-59346
    CVE-2026-54637 CVE-2026-10517 CVE-2026-49478 CVE-2026-57894 CVE-2026-58418 CVE-2025-24976 GHSA-phw4-mc57-4hwc
    CVE-2024-39897 GHSA-55r9-5mx9-qq7r CVE-2026-35172 GHSA-f2g3-hh2r-cwgc CVE-2025-23208 CVE-2026-31801
    CVE-2026-41888 CVE-2020-29662 CVE-2020-13794 CVE-2019-19030 Harbor#23675 GHSA-4j4m-fchf-gr9r
    GHSA-78cx-cfhm-rgmx nora#581 dart#6 CVE-2025-59354 GHSA-qv35-3gw6-8q4j GHSA-qq97-vm5h-rrhg GHSA-5j5w-g665-5m35
    GHSA-xmmx-7jpf-fx42 CVE-2017-11468 CVE-2023-2253 CVE-2023-46737 CVE-2024-3727 GHSA-6wvf-f2vw-3425 CVE-2024-4956
    CVE-2022-47747 CVE-2021-3762 CVE-2025-59352 CVE-2019-10214 CVE-2025-59347 CVE-2025-59410 CVE-2023-20902
    CVE-2025-59350 CVE-2025-48374 GHSA-prh4-vhfh-24mj RUSTSEC-2024-0358 CVE-2023-27584 CVE-2026-4404 CVE-2025-59345
    CVE-2026-24124 CVE-2026-49254 RUSTSEC-2026-0258 RUSTSEC-2024-0332 RUSTSEC-2026-0104 RUSTSEC-2026-0049
    RUSTSEC-2022-0055 RUSTSEC-2023-0071";

#[test]
fn every_known_advisory_has_a_row_and_every_row_a_test() {
    let page = text("tests/advisories.md");
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1)
        .take_while(|line| !line.contains("| What"));
    let rows = rows.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>()).collect::<Vec<_>>();
    let named = rows.iter().map(|cells| cells[1]).collect::<Vec<_>>();
    let once = named.iter().copied().collect::<BTreeSet<_>>();
    assert_eq!(once.len(), named.len(), "an identifier has two rows");
    assert_eq!(
        once,
        KNOWN.split_whitespace().collect(),
        "advisories without a row, or rows without an advisory"
    );
    for cells in rows {
        assert!(cells.len() == 5 && cells[2].len() > 5 && cells[3].len() > 20, "{cells:?} says too little");
        assert!(cells[3].contains("::"), "{} names no test", cells[1]);
    }
}

#[test]
fn every_test_that_a_page_names_exists() {
    let mut seen = 0;
    for page in ["tests/advisories.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        for name in text(page).split('`').skip(1).step_by(2) {
            let Some((path, test)) = name.split_once(".rs::") else { continue };
            seen += 1;
            let source = text(&format!("{path}.rs"));
            let there =
                [format!("fn {test}("), format!("fn {test}<")].iter().any(|text| source.contains(text));
            assert!(there, "{page} names {name}, which does not exist");
        }
    }
    assert!(seen > 80, "{seen} tests are named: the names are not read");
}

#[test]
fn every_file_that_a_page_names_exists() {
    let rooms = ["", "proxy/src/", "proxy/config/src/", "crds/src/", "proxy/src/store/", "proxy/src/cache/"];
    let more = [
        "proxy/src/auth/",
        "proxy/src/cleanup/",
        "proxy/src/upstream/",
        "proxy/src/documents/",
        "proxy/src/http/",
        "proxy/src/replica/",
    ];
    let operator =
        ["operator/src/", "operator/src/world/", "operator/src/instance/", "operator/src/binding/"];
    let mut seen = 0;
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        for name in text(page).split('`').skip(1).step_by(2) {
            let is_ours =
                ["deploy/", "tests/", "proxy/", "crds/"].iter().any(|folder| name.starts_with(folder));
            let is_file = [".md", ".yaml", ".service", ".sh", ".list"].iter().any(|end| name.ends_with(end));
            if name.contains([' ', '<', ':', '*']) || !(name.ends_with(".rs") || is_ours && is_file) {
                continue;
            }
            seen += 1;
            let there =
                rooms.iter().chain(&more).chain(&operator).any(|room| root().join(room).join(name).is_file());
            assert!(there, "{page} names {name}, which does not exist");
        }
    }
    assert!(seen > 40, "{seen} files are named: the names are not read");
}
