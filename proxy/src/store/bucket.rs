//! The shared object store: S3 and whatever speaks its protocol.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use config::S3;
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    BackoffConfig, Certificate, ClientOptions, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig,
    WriteMultipart,
};

use super::Error;
use super::read_file;

/// Blobs up to this size are put in one request.
const SINGLE_PUT: usize = 8 * 1024 * 1024;
/// S3 wants parts of at least 5 MiB and at most 10,000 of them: 8 MiB allow 78 GiB.
const PART: usize = 8 * 1024 * 1024;
/// Parts on their way at once, which bounds an upload's memory.
const PARTS_AT_ONCE: usize = 2;

/// Connects to a bucket; asks it nothing yet.
pub(super) fn connect(s3: &S3) -> object_store::Result<Arc<dyn ObjectStore>> {
    let mut client = ClientOptions::new()
        .with_connect_timeout(Duration::from_secs(2))
        // For a single request; blobs stream in many reads, each of which may take this long.
        .with_timeout_disabled()
        .with_read_timeout(Duration::from_secs(10));
    if let Some(ca) = &s3.ca {
        for certificate in Certificate::from_pem_bundle(ca.as_bytes())? {
            client = client.with_root_certificate(certificate);
        }
    }
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&s3.bucket)
        .with_virtual_hosted_style_request(!s3.path_style)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_client_options(client)
        .with_retry(retry());
    if let Some(region) = &s3.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &s3.endpoint {
        builder = builder
            .with_endpoint(endpoint.as_str().trim_end_matches('/'))
            .with_allow_http(endpoint.scheme() == "http");
    }
    if let Some(credentials) = &s3.credentials {
        builder = builder
            .with_access_key_id(&credentials.access_key_id)
            .with_secret_access_key(credentials.secret_access_key.expose());
        if let Some(token) = &credentials.session_token {
            builder = builder.with_token(token.expose());
        }
    }
    let bucket: AmazonS3 = builder.build()?;
    Ok(match &s3.prefix {
        Some(prefix) => Arc::new(object_store::prefix::PrefixStore::new(bucket, prefix.as_str())),
        None => Arc::new(bucket),
    })
}

/// A pull waits for these retries: better a request to upstream than minutes of waiting for a store that is away.
fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_millis(500),
            base: 2.0,
        },
        max_retries: 2,
        retry_timeout: Duration::from_secs(3),
    }
}

/// Uploads a whole file: readers see all of it or nothing.
pub(super) async fn upload(store: &dyn ObjectStore, path: &Path, file: Arc<File>) -> Result<(), Error> {
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if size <= SINGLE_PUT {
        let bytes = read_file(file, 0, size).await?;
        return store.put(path, PutPayload::from_bytes(bytes)).await.map(drop).map_err(Error::from);
    }
    let upload = store.put_multipart(path).await?;
    let mut writer = WriteMultipart::new_with_chunk_size(upload, PART);
    let mut at = 0;
    while at < size {
        let part = read_file(file.clone(), at as u64, PART.min(size - at)).await;
        let ready = writer.wait_for_capacity(PARTS_AT_ONCE).await;
        match (part, ready) {
            (Ok(bytes), Ok(())) => {
                at += bytes.len();
                writer.put(bytes);
            }
            (part, ready) => {
                writer.abort().await.ok();
                part?;
                return ready.map_err(Error::from);
            }
        }
    }
    writer.finish().await.map(drop).map_err(Error::from)
}
