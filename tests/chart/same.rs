//! What is written in two places is the same in both.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use harness::tool;
use serde_json::Value;

use crate::ground::{identity, objects, root, succeed, template, text};

#[test]
fn what_is_made_from_the_chart_and_for_it_is_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let mut generate = Command::new(root().join("deploy/kustomize/generate.sh"));
    succeed(generate.arg(folder.path()).env("HELM", tool::built("helm")));
    let mut made = Vec::new();
    walk(folder.path(), &mut |file| {
        made.push(file.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned());
    });
    assert_eq!(made.len(), 5, "{made:?}");
    for path in made {
        let fresh = std::fs::read_to_string(folder.path().join(&path)).unwrap();
        assert!(text(&path) == fresh, "{path} is not up to date: run deploy/kustomize/generate.sh");
    }
}

#[test]
fn the_charts_kinds_are_those_of_the_crates() {
    let rendered = rendered_by_helm();
    let definitions = objects(&text("deploy/crds.yaml"));
    assert_eq!(definitions.len(), 5);
    for definition in definitions {
        let identity = identity(&definition);
        assert!(rendered.get(&identity) == Some(&definition), "{identity} of the chart is another");
    }
}

#[test]
fn kustomize_makes_what_helm_makes() {
    let kubectl = tool::built("kubectl");
    let printed = succeed(Command::new(kubectl).arg("kustomize").arg(root().join("deploy")));
    let mut by_kustomize = by_identity(&printed);
    let namespace = by_kustomize.remove("Namespace -/dependency-proxy").unwrap();
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    let by_helm = rendered_by_helm();
    assert!(by_helm.len() >= 15, "{:?}", by_helm.keys());
    assert_eq!(by_kustomize.keys().collect::<Vec<_>>(), by_helm.keys().collect::<Vec<_>>());
    // The kinds are of one file on both sides, of which kustomize writes the numbers in another way.
    for (identity, object) in
        by_helm.iter().filter(|(_, object)| object["kind"] != "CustomResourceDefinition")
    {
        assert_eq!(by_kustomize.get(identity), Some(object), "{identity}");
    }
}

#[test]
fn another_image_in_kustomize_is_the_proxies_too() {
    let folder = tempfile::tempdir().unwrap();
    let deploy = folder.path().join("deploy");
    succeed(Command::new("cp").arg("-r").arg(root().join("deploy")).arg(&deploy));
    let file = deploy.join("kustomization.yaml");
    let changed = std::fs::read_to_string(&file).unwrap();
    let changed =
        changed.replace("newName: dependencyproxy.dev/dependency-proxy", "newName: localhost:5000/mirror");
    std::fs::write(&file, changed).unwrap();
    let printed = succeed(Command::new(tool::built("kubectl")).arg("kustomize").arg(&deploy));
    assert_eq!(
        printed.matches("localhost:5000/mirror:").count(),
        2,
        "the operator's image, and the proxies'"
    );
    assert!(!printed.contains("dependencyproxy.dev/dependency-proxy:"), "no other image is left");
}

/// The chart's objects with its defaults, without what only Helm needs.
fn rendered_by_helm() -> BTreeMap<String, Value> {
    let mut objects = by_identity(&succeed(&mut template(&["--skip-tests"])));
    for object in objects.values_mut() {
        if object["kind"] == "CustomResourceDefinition" {
            let name = object["metadata"]["name"].clone();
            assert_eq!(object["metadata"]["annotations"]["helm.sh/resource-policy"], "keep", "{name}");
            object["metadata"] = serde_json::json!({"name": name});
        } else {
            let labels = object["metadata"]["labels"].as_object_mut().unwrap();
            assert!(
                labels.remove("helm.sh/chart").is_some()
                    && labels.remove("app.kubernetes.io/managed-by").is_some()
            );
        }
    }
    objects
}

fn by_identity(stream: &str) -> BTreeMap<String, Value> {
    objects(stream).into_iter().map(|object| (identity(&object), object)).collect()
}

fn walk(folder: &Path, seen: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, seen) } else { seen(&path) }
    }
}
