//! DependencyProxies that are refused, and the parts of one that are left out.

use config::{ObjectId, Options, Origin};

use crate::{GOOD, instance_told, judged};

#[test]
fn several_instances_need_a_choice() {
    let other = "apiVersion: dependencyproxy.dev/v1alpha1\nkind: DependencyProxy\nmetadata:\n  name: two\n  namespace: b\nspec: {externalURL: 'https://b.example.com', storage: {ephemeral: {}}}\n";
    let (judgement, printed) = judged(GOOD, other, Origin::File, &Options::default());
    assert!(judgement.config.is_none());
    assert_eq!(
        printed,
        [
            "bad.yaml:4 DependencyProxy b/two metadata.name: is one of 2; say which to serve with --instance NAMESPACE/NAME",
            "good.yaml:4 DependencyProxy dependency-proxy/main metadata.name: is one of 2; say which to serve with --instance NAMESPACE/NAME",
        ]
    );
    let choose = |name: &str| Options {
        instance: Some(ObjectId { namespace: "b".into(), name: name.into() }),
        ..Options::default()
    };
    let (judgement, printed) = judged(GOOD, other, Origin::File, &choose("two"));
    assert_eq!(printed, [""; 0]);
    assert!(judgement.config.unwrap().groups.is_empty(), "groups of another instance are not ours");
    let (judgement, printed) = judged(GOOD, other, Origin::File, &choose("three"));
    assert_eq!(
        printed,
        ["DependencyProxy b/three: there is no DependencyProxy b/three; create it or correct the name"]
    );
    assert!(judgement.config.is_none());
}

#[test]
fn an_instance_that_cannot_be_is_not_served() {
    for (from, to, problem) in [
        (
            "http://127.0.0.1:5000",
            "https://a.example.com/registry",
            "6 DependencyProxy dependency-proxy/main spec.externalURL: must have no path, query or fragment: clients want the registry at the root of the host",
        ),
        (
            "http://127.0.0.1:5000",
            "https://u:hunter2@a.example.com",
            "6 DependencyProxy dependency-proxy/main spec.externalURL: must have no user name or password; take them out",
        ),
        (
            "http://127.0.0.1:5000",
            "ftp://a",
            "6 DependencyProxy dependency-proxy/main spec.externalURL: must be an http or https URL with a host, such as https://registry.example.com",
        ),
        (
            "http://main.dependency-proxy.svc:5000",
            "main:5000",
            "7 DependencyProxy dependency-proxy/main spec.additionalURLs[0]: must be an http or https URL with a host, such as https://registry.example.com",
        ),
        (
            "replicas: 3",
            "replicas: 101",
            "9 DependencyProxy dependency-proxy/main spec.replicas: must be 0 to 100",
        ),
        (
            "sizeLimit: 10Gi",
            "sizeLimit: lots",
            "11 DependencyProxy dependency-proxy/main spec.localCache.sizeLimit: must be a quantity of bytes above zero, such as 10Gi",
        ),
        (
            "tokenTTLSeconds: 900",
            "tokenTTLSeconds: 59",
            "12 DependencyProxy dependency-proxy/main spec.auth.tokenTTLSeconds: must be 60 to 3600",
        ),
        (
            "10.1.0.0/16",
            "10.1.0.0/33",
            "13 DependencyProxy dependency-proxy/main spec.upstreamNetworks.allowedCIDRs[0]: must be a network such as 10.1.0.0/16",
        ),
        (
            "drainSeconds: 120",
            "drainSeconds: 3601",
            "19 DependencyProxy dependency-proxy/main spec.drainSeconds: must be 0 to 3600",
        ),
        (
            "drainSeconds: 120",
            "drainSeconds: 120\n  cleanup: {schedule: every day}",
            "20 DependencyProxy dependency-proxy/main spec.cleanup.schedule: must be five fields of a CronJob's schedule, such as 0 3 * * *",
        ),
        (
            "drainSeconds: 120",
            "drainSeconds: 120\n  cleanup: {verifyMinutes: -1}",
            "20 DependencyProxy dependency-proxy/main spec.cleanup.verifyMinutes: must be 0 to 1440",
        ),
        (
            "drainSeconds: 120",
            "drainSeconds: 120\n  quota: {storageBytes: '0'}",
            "20 DependencyProxy dependency-proxy/main spec.quota.storageBytes: must be a quantity of bytes above zero, such as 10Gi",
        ),
        (
            "storage: {s3: {bucket: blobs,",
            "storage: {ephemeral: {}, s3: {bucket: blobs,",
            "10 DependencyProxy dependency-proxy/main spec.storage: must have exactly one of s3, gcs, azure, persistentVolumeClaim and ephemeral",
        ),
        (
            "keysSecretRef: {name: keys}",
            "keysSecretRef: {name: nothing}",
            "12 DependencyProxy dependency-proxy/main spec.auth.keysSecretRef: there is no Secret dependency-proxy/nothing; create it or correct the name",
        ),
    ] {
        instance_told(from, to, false, &[&format!("good.yaml:{problem}")]);
    }
}

#[test]
fn storage_that_comes_later_or_is_for_one_replica_is_refused_with_a_sentence() {
    let start = GOOD.find("storage: {").unwrap();
    let storage = GOOD[start..].lines().next().unwrap();
    for (to, problem) in [
        (
            "storage: {gcs: {bucket: blobs}}",
            "10 DependencyProxy dependency-proxy/main spec.storage.gcs: is not supported yet; use s3, which Google Cloud Storage speaks with HMAC keys, or another storage",
        ),
        (
            "storage: {azure: {account: acc, container: blobs}}",
            "10 DependencyProxy dependency-proxy/main spec.storage.azure: is not supported yet; use s3 or persistentVolumeClaim",
        ),
        (
            "storage: {ephemeral: {}}",
            "9 DependencyProxy dependency-proxy/main spec.replicas: must be 1 with ephemeral storage; use s3 for more replicas",
        ),
        (
            "storage: {persistentVolumeClaim: {size: 1Gi}}",
            "9 DependencyProxy dependency-proxy/main spec.replicas: must be 1 with a volume; use s3 for more replicas",
        ),
    ] {
        instance_told(storage, to, false, &[&format!("good.yaml:{problem}")]);
    }
}

#[test]
fn an_alias_or_mirror_that_leads_nowhere_is_left_out() {
    for (from, to, problem) in [
        (
            "prefix: harbor/dockerhub",
            "prefix: /harbor",
            "16 DependencyProxy dependency-proxy/main spec.aliases[0].prefix: must be lower-case segments such as harbor/dockerhub, without slashes at its ends",
        ),
        (
            "prefix: harbor/dockerhub, groupRef: {name: team-a,",
            "prefix: a, groupRef: {name: x,",
            "16 DependencyProxy dependency-proxy/main spec.aliases[0].groupRef: there is no DependencyProxyGroup team-a/x; create it or correct the name",
        ),
        (
            "virtualRegistryRef: {name: hub, namespace: team-a}",
            "virtualRegistryRef: {name: hub}",
            "17 DependencyProxy dependency-proxy/main spec.aliases[1].virtualRegistryRef: there is no VirtualRegistry dependency-proxy/hub; create it or correct the name",
        ),
        (
            "prefix: virtual_registries/container/1, virtualRegistryRef",
            "prefix: x, groupRef: {name: a}, virtualRegistryRef",
            "17 DependencyProxy dependency-proxy/main spec.aliases[1]: must have exactly one of groupRef and virtualRegistryRef",
        ),
        (
            "host: hub.example.com",
            "host: Hub.example.com",
            "18 DependencyProxy dependency-proxy/main spec.mirrors[0].host: must be a host name in lower case, with :port if clients state one, without scheme and path",
        ),
        (
            "host: hub.example.com",
            "host: 'hub.example.com:0'",
            "18 DependencyProxy dependency-proxy/main spec.mirrors[0].host: must be a host name in lower case, with :port if clients state one, without scheme and path",
        ),
    ] {
        instance_told(from, to, true, &[&format!("good.yaml:{problem}")]);
    }
}
