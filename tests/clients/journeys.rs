//! One journey for each client.

use std::collections::BTreeMap;
use std::path::Path;

use harness::client::{Crane, Ctr, Docker, Output, Regctl, Skopeo, Store};
use harness::image::Image;
use harness::tool;

use crate::ground::Ground;

#[tokio::test]
async fn docker_signs_in_and_pulls() {
    if tool::left_out(&["dockerd", "docker", "containerd"], true) {
        return;
    }
    let (mut ground, docker) = tokio::join!(Ground::new(), Docker::start());
    docker.login(&ground.proxy.host(), &Ground::login()).await.succeeds();
    for build in [Image::oci, Image::docker] {
        ground
            .journey(build, async |name, image| {
                let pulled = docker.pull(name).await.succeeds();
                assert_eq!(docker.digest(name).await, image.digest().to_string());
                pulled
            })
            .await;
    }
}

#[tokio::test]
async fn docker_signs_in_at_a_virtual_registrys_path() {
    if tool::left_out(&["dockerd", "docker", "containerd"], true) {
        return;
    }
    let (ground, docker) = tokio::join!(Ground::new(), Docker::start());
    ground.registry.repository("library/app").push(&Image::oci(), "1").await;
    let server = format!("{}/virtual_registries/container/team-a.hub", ground.proxy.host());
    docker.login(&server, &Ground::login()).await.succeeds();
    docker.pull(&format!("{}:1", ground.in_virtual_registry("library/app"))).await.succeeds();
}

#[tokio::test]
async fn skopeo_copies_byte_for_byte() {
    if tool::left_out(&["skopeo"], false) {
        return;
    }
    let mut ground = Ground::new().await;
    let skopeo = Skopeo::new();
    let login = Ground::login();
    for build in [Image::oci, Image::docker] {
        ground
            .journey(build, async |name, image| {
                let (output, folder) = skopeo.copy(name, Some(&login)).await;
                assert!(files(&folder) == skopeo_files(image), "not the image's files: {}", output.text);
                output
            })
            .await;
    }
}

#[tokio::test]
async fn skopeo_copies_what_the_upstream_registry_has() {
    if tool::left_out(&["skopeo"], false) {
        return;
    }
    let (ground, skopeo) = (Ground::new().await, Skopeo::new());
    let image = Image::oci();
    ground.registry.repository("library/app").push(&image, "1").await;
    let (direct, from_registry) =
        skopeo.copy(&format!("{}/library/app:1", ground.registry.host()), None).await;
    direct.succeeds();
    let name = format!("{}@{}", ground.in_group("library/app"), image.digest());
    let (output, through_proxy) = skopeo.copy(&name, Some(&Ground::login())).await;
    output.succeeds();
    assert!(files(&through_proxy) == files(&from_registry), "the copies differ");
    skopeo.login(&ground.proxy.host(), &Ground::login()).await.succeeds();
    skopeo.copy(&name, None).await.0.succeeds();
    let raw = skopeo.inspect(&name, &Ground::login()).await.succeeds();
    assert_eq!(raw.text.as_bytes(), image.top.bytes);
}

#[tokio::test]
async fn crane_pulls_all_platforms() {
    let (mut ground, crane) = (Ground::new().await, Crane::new());
    crane.login(&ground.proxy.host(), &Ground::login()).await.succeeds();
    ground
        .journey(Image::oci, async |name, image| {
            let (output, layout) = crane.pull(name).await;
            assert_has_all(&layout, image, &output);
            output
        })
        .await;
}

#[tokio::test]
async fn regctl_copies_all_platforms() {
    let (mut ground, regctl) = (Ground::new().await, Regctl::new());
    regctl.login(&ground.proxy.host(), &Ground::login()).await.succeeds();
    ground
        .journey(Image::oci, async |name, image| {
            let (output, layout) = regctl.copy(name).await;
            assert_has_all(&layout, image, &output);
            output
        })
        .await;
}

#[tokio::test]
async fn regctl_copies_a_chart_and_its_signature() {
    let (ground, regctl) = (Ground::new().await, Regctl::new());
    let repository = ground.registry.repository("charts/web");
    let chart = Image::helm_chart("web");
    let signature =
        Image::referrer("application/vnd.example.signature", harness::blob::Blob::random(64), &chart.top);
    repository.push(&chart, "0.1.0").await;
    repository.push_referrer(&signature, &chart.top).await;

    regctl.login(&ground.proxy.host(), &Ground::login()).await.succeeds();
    for name in [ground.in_group("charts/web"), ground.in_virtual_registry("charts/web")] {
        let (output, layout) = regctl.copy_with_referrers(&format!("{name}:0.1.0")).await;
        assert_has_all(&layout, &chart, &output);
        assert_has_all(&layout, &signature, &output);
        output.succeeds();
    }
}

#[tokio::test]
async fn containerd_pulls() {
    if tool::left_out(&["containerd", "ctr"], true) {
        return;
    }
    let (mut ground, ctr) = tokio::join!(Ground::new(), Ctr::start());
    ground
        .journey(Image::oci, async |name, image| {
            let pulled = ctr.pull(name, &Ground::login()).await.succeeds();
            assert_eq!(ctr.digest(name).await, image.digest().to_string());
            pulled
        })
        .await;
}

#[tokio::test]
async fn containerd_pulls_an_upstream_name_through_the_groups_prefix_as_mirror() {
    if tool::left_out(&["containerd", "ctr"], true) {
        return;
    }
    let (mut ground, ctr) = tokio::join!(Ground::new(), Ctr::start());
    let image = Image::oci();
    ground.registry.repository("library/app").push(&image, "1").await;
    let name = format!("{}/library/app:1", ground.registry.host());
    let mirror = format!("{}/v2/team-a/dependency_proxy/containers", ground.proxy.url());

    ctr.pull_by_mirror(&name, &mirror, &Ground::login()).await.succeeds();
    assert_eq!(ctr.digest(&name).await, image.digest().to_string());
    ground.registry.stop();
    // With the upstream gone, only the mirror can answer.
    ctr.pull_by_mirror(&name, &mirror, &Ground::login()).await.succeeds();
}

#[tokio::test]
async fn buildah_pulls() {
    if !tool::left_out(&["buildah"], true) {
        storage_journey(Store::buildah()).await;
    }
}

#[tokio::test]
async fn podman_pulls() {
    if !tool::left_out(&["podman"], true) {
        storage_journey(Store::podman()).await;
    }
}

async fn storage_journey(client: Store) {
    let mut ground = Ground::new().await;
    client.login(&ground.proxy.host(), &Ground::login()).await.succeeds();
    ground.journey(Image::oci, async |name, _| client.pull(name, None).await).await;
}

/// The files that `skopeo copy --all` to a folder makes of an image, beside its note of the folder's version.
fn skopeo_files(image: &Image) -> BTreeMap<String, Vec<u8>> {
    let manifests =
        image.platforms.iter().map(|m| (format!("{}.manifest.json", m.digest.hex()), m.bytes.to_vec()));
    let blobs = image.blobs.iter().map(|blob| (blob.digest.hex(), blob.bytes.to_vec()));
    manifests.chain(blobs).chain([("manifest.json".to_owned(), image.top.bytes.to_vec())]).collect()
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return BTreeMap::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.filter(|name| name != "version");
    names.map(|name| (name.clone(), std::fs::read(folder.join(name)).unwrap())).collect()
}

/// Fails unless the OCI layout has every manifest and blob of `image`, byte for byte.
#[track_caller]
fn assert_has_all(layout: &Path, image: &Image, output: &Output) {
    let manifests = image.platforms.iter().chain([&image.top]).map(|m| (m.digest, &m.bytes));
    for (digest, bytes) in manifests.chain(image.blobs.iter().map(|blob| (blob.digest, &blob.bytes))) {
        let file = layout.join("blobs").join(digest.algorithm().as_str()).join(digest.hex());
        assert!(std::fs::read(file).is_ok_and(|copied| copied == *bytes), "no {digest}: {}", output.text);
    }
}
