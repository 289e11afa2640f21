//! Where blobs are kept.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::LocalReference;

/// Where blobs are kept. Exactly one field.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "[has(self.s3), has(self.gcs), has(self.azure), has(self.persistentVolumeClaim), has(self.ephemeral)].filter(x, x).size() == 1",
    "set exactly one of s3, gcs, azure, persistentVolumeClaim and ephemeral"
))]
pub struct Storage {
    /// An S3 bucket, or one of a server that speaks S3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
    /// A bucket of Google Cloud Storage. Comes later: refused until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gcs: Option<Gcs>,
    /// A container of Azure Blob Storage. Comes later: refused until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure: Option<Azure>,
    /// A volume that outlives the pod. Outside a cluster: the data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<PersistentVolumeClaim>,
    /// The pod's own disk; what is cached is lost with the pod. Outside a cluster: the data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<Ephemeral>,
}

/// An S3 bucket.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3 {
    /// Name of the bucket, 3 to 63 characters. It must exist.
    #[schemars(length(min = 3, max = 63))]
    pub bucket: String,
    /// Region of the bucket. Default: from the environment, else us-east-1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub region: Option<String>,
    /// URL of an S3 server, http or https. Default: AWS in `region`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = (
        "isURL(self) && url(self).getScheme() in ['https', 'http'] && url(self).getHostname() != '' && !self.contains('@')",
        "must be an http or https URL without user name"
    ))]
    pub endpoint: Option<String>,
    /// Prefix of every key, without slashes at its ends. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = ("!self.startsWith('/') && !self.endsWith('/') && !self.contains('//')", "must have no slash at its ends and no empty part"))]
    pub prefix: Option<String>,
    /// Whether the bucket stands in the path instead of the host name, as most own S3 servers want. Default: false.
    #[serde(default)]
    pub path_style: bool,
    /// Secret with `accessKeyID`, `secretAccessKey` and, optionally, `sessionToken` (or the names of the AWS
    /// environment variables). Default: the environment or the identity of the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalReference>,
    /// ConfigMap with a PEM bundle under `ca.crt`: a private CA of the S3 server. Default: the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_config_map_ref: Option<LocalReference>,
}

/// A bucket of Google Cloud Storage.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gcs {
    /// Name of the bucket.
    #[schemars(length(min = 3, max = 222))]
    pub bucket: String,
    /// Secret with a service account's key. Default: the identity of the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalReference>,
}

/// A container of Azure Blob Storage.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Azure {
    /// Name of the storage account.
    #[schemars(length(min = 3, max = 24))]
    pub account: String,
    /// Name of the container.
    #[schemars(length(min = 3, max = 63))]
    pub container: String,
    /// Secret with the account's key. Default: the identity of the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalReference>,
}

/// A volume that outlives the pod.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersistentVolumeClaim {
    /// Size of the volume, a Kubernetes quantity such as 100Gi.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = ("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))", "must be a quantity above zero, such as 100Gi"))]
    pub size: String,
    /// Storage class. Default: the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// Access modes. Default: ReadWriteOnce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(min = 1, max = 32)))]
    pub access_modes: Vec<String>,
}

/// The pod's own disk.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema)]
pub struct Ephemeral {}
