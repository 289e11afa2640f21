//! The definitions as an API server takes them.

use kube::CustomResourceExt;
use serde_yaml::Value;

use crate::{DependencyProxy, DependencyProxyGroup, PullBinding, RegistryUpstream, VirtualRegistry};

/// All custom resource definitions as YAML documents.
///
/// # Errors
/// When a definition cannot be written as YAML, which its types rule out.
pub fn definitions() -> Result<String, serde_yaml::Error> {
    let kinds = [
        DependencyProxy::crd(),
        RegistryUpstream::crd(),
        DependencyProxyGroup::crd(),
        VirtualRegistry::crd(),
        PullBinding::crd(),
    ];
    let mut text = String::new();
    for kind in kinds {
        let mut definition = serde_yaml::to_value(kind)?;
        drop_nullable(&mut definition);
        text.push_str("---\n");
        text.push_str(&serde_yaml::to_string(&definition)?);
    }
    Ok(text)
}

/// Takes `nullable` out of a schema. kube writes it for every `Option`, and it breaks merge patches and
/// server-side apply (API conventions, "Nullable"); without it an explicit null is pruned.
fn drop_nullable(schema: &mut Value) {
    match schema {
        Value::Mapping(fields) => {
            if fields.get("nullable").is_some_and(Value::is_bool) {
                fields.remove("nullable");
            }
            fields.values_mut().for_each(drop_nullable);
        }
        Value::Sequence(items) => items.iter_mut().for_each(drop_nullable),
        _ => {}
    }
}
