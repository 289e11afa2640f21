//! One repository of a registry, through the registry's own API.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use http::{Method, StatusCode};
use oci::{Digest, media};
use reqwest::{RequestBuilder, Response};
use serde_json::json;
use url::Url;

use crate::blob::Blob;
use crate::image::{Image, Manifest};

/// A repository to push to and to read from. Every refusal panics: the harness asks only for what must work.
#[derive(Clone)]
pub struct Repository {
    client: reqwest::Client,
    base: String,
    account: Option<(String, String)>,
}

impl Repository {
    /// `registry` as `http://host:port`, `name` without a tag, `account` as user and password.
    #[must_use]
    pub fn new(registry: &str, name: &str, account: Option<(String, String)>) -> Self {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { client, base: format!("{registry}/v2/{name}"), account }
    }

    /// A request to `path` below the repository: `blobs/sha256:...`, `manifests/latest`, `tags/list`.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.authorized(self.client.request(method, format!("{}/{path}", self.base)))
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.account {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        }
    }

    /// Uploads a blob.
    pub async fn push_blob(&self, blob: &Blob) {
        let begun = expect(self.request(Method::POST, "blobs/uploads/"), StatusCode::ACCEPTED).await;
        let location = begun.headers()[LOCATION].to_str().expect("a location is text");
        let mut target =
            Url::parse(&self.base).and_then(|base| base.join(location)).expect("a location is a URL");
        target.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        let upload =
            self.authorized(self.client.put(target)).header(CONTENT_TYPE, "application/octet-stream");
        expect(upload.body(blob.bytes.clone()), StatusCode::CREATED).await;
    }

    /// Uploads a manifest under a tag or its digest. What it refers to must be there.
    pub async fn push_manifest(&self, manifest: &Manifest, reference: &str) {
        let request = self.request(Method::PUT, &format!("manifests/{reference}"));
        let request = request.header(CONTENT_TYPE, &manifest.media_type).body(manifest.bytes.clone());
        expect(request, StatusCode::CREATED).await;
    }

    /// Uploads a whole image and tags it; tagging again moves the tag.
    pub async fn push(&self, image: &Image, tag: &str) -> Digest {
        self.push_untagged(image).await;
        self.push_manifest(&image.top, tag).await;
        image.digest()
    }

    /// Uploads a whole image, to be pulled by digest only.
    pub async fn push_untagged(&self, image: &Image) -> Digest {
        for blob in &image.blobs {
            self.push_blob(blob).await;
        }
        for manifest in image.platforms.iter().chain([&image.top]) {
            self.push_manifest(manifest, &manifest.digest.to_string()).await;
        }
        image.digest()
    }

    /// Uploads an artifact that refers to `subject`, and lists it under the tag `sha256-<hex>` that distribution-spec
    /// 1.1 gives to registries without a referrers API (docker-registry 2.8, distribution v3).
    pub async fn push_referrer(&self, artifact: &Image, subject: &Manifest) -> Digest {
        let digest = self.push_untagged(artifact).await;
        let document: serde_json::Value =
            serde_json::from_slice(&artifact.top.bytes).expect("a manifest is JSON");
        let mut entry = artifact.top.descriptor();
        entry["artifactType"] = document["artifactType"].clone();
        let list = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [entry]});
        self.push_manifest(&Manifest::of(&list), &subject.digest.to_string().replace(':', "-")).await;
        digest
    }

    /// The bytes and the media type under a tag or digest.
    pub async fn manifest(&self, reference: &str) -> (Bytes, String) {
        let request =
            self.request(Method::GET, &format!("manifests/{reference}")).header(ACCEPT, media::ACCEPT);
        let response = expect(request, StatusCode::OK).await;
        let media_type = response.headers()[CONTENT_TYPE].to_str().expect("a media type is text").to_owned();
        (response.bytes().await.expect("the whole manifest arrives"), media_type)
    }

    /// The bytes of a blob.
    pub async fn blob(&self, digest: &Digest) -> Bytes {
        let response = expect(self.request(Method::GET, &format!("blobs/{digest}")), StatusCode::OK).await;
        response.bytes().await.expect("the whole blob arrives")
    }

    /// Removes a manifest and with it all its tags: the next pull is answered 404.
    pub async fn delete(&self, digest: &Digest) {
        expect(self.request(Method::DELETE, &format!("manifests/{digest}")), StatusCode::ACCEPTED).await;
    }
}

async fn expect(request: RequestBuilder, status: StatusCode) -> Response {
    let response = request.send().await.expect("the registry answers");
    if response.status() == status {
        return response;
    }
    let (found, url) = (response.status(), response.url().clone());
    panic!("{url}: {found} instead of {status}: {}", response.text().await.unwrap_or_default());
}
