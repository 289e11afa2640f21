//! What the operator counts. All names begin with `dependency_proxy_operator_`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// Handles of all metrics; a clone counts into the same ones.
#[derive(Clone)]
pub struct Metrics {
    pub reconciles: Family<Reconcile, Counter>,
    pub reconcile_duration: Family<Kind, Histogram, Durations>,
    pub judge_duration: Histogram,
    pub push_duration: Histogram,
    pub leader: Gauge,
    pub objects: Family<Objects, Gauge>,
    pub rendered_bytes: Family<Proxy, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reconcile {
    pub kind: &'static str,
    /// ok; retry: what failed passes, the API server is away or busy, or somebody else was faster; error: it does not.
    pub result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    pub kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Objects {
    pub kind: &'static str,
    pub ready: &'static str,
}

/// `namespace/name` of a DependencyProxy. Not `instance`: Prometheus has that for itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Proxy {
    pub proxy: String,
}

/// Makes histograms from a millisecond to half a minute.
#[derive(Clone, Copy)]
pub struct Durations;

impl MetricConstructor<Histogram> for Durations {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0])
    }
}

impl Metrics {
    /// Registers all metrics.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconciles: Family::default(),
            reconcile_duration: Family::new_with_constructor(Durations),
            judge_duration: Durations.new_metric(),
            push_duration: Durations.new_metric(),
            leader: Gauge::default(),
            objects: Family::default(),
            rendered_bytes: Family::default(),
        };
        let all = registry.sub_registry_with_prefix("dependency_proxy_operator");
        all.register("reconciles", "Objects that were looked at", metrics.reconciles.clone());
        all.register_with_unit(
            "reconcile_duration",
            "Time that looking at an object took",
            Unit::Seconds,
            metrics.reconcile_duration.clone(),
        );
        all.register_with_unit(
            "judge_duration",
            "Time from a change to the documents that it makes",
            Unit::Seconds,
            metrics.judge_duration.clone(),
        );
        all.register_with_unit(
            "push_duration",
            "Time from documents to the last ready pod that has them",
            Unit::Seconds,
            metrics.push_duration.clone(),
        );
        all.register("leader", "1 while this operator leads", metrics.leader.clone());
        all.register("objects", "Objects by whether they are ready", metrics.objects.clone());
        all.register_with_unit(
            "rendered",
            "Compressed documents of an instance; the bound is 1048576",
            Unit::Bytes,
            metrics.rendered_bytes.clone(),
        );
        all.register(
            "build",
            "The operator's version",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        metrics
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// As README's table has them: name, labels, type.
    fn registered() -> BTreeSet<String> {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        // A family is printed once it has a value.
        metrics.reconciles.get_or_create(&Reconcile { kind: "PullBinding", result: "ok" }).inc();
        metrics.reconcile_duration.get_or_create(&Kind { kind: "PullBinding" }).observe(1.0);
        metrics.objects.get_or_create(&Objects { kind: "PullBinding", ready: "true" }).set(1);
        metrics.rendered_bytes.get_or_create(&Proxy { proxy: "a/main".to_owned() }).set(1);
        let mut text = String::new();
        assert!(prometheus_client::encoding::text::encode(&mut text, &registry).is_ok());
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE dependency_proxy_operator_"));
        let rows = types.filter_map(|line| line.split_once(' ')).map(|(family, kind)| {
            let (name, kind) = match kind {
                "counter" => (format!("{family}_total"), kind),
                "info" => (format!("{family}_info"), "gauge"),
                _ => (family.to_owned(), kind),
            };
            let prefix = format!("dependency_proxy_operator_{family}");
            let sample = text.lines().find(|line| line.starts_with(&prefix)).unwrap_or_default();
            let labels = sample.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
            let labels = labels.map(|(labels, _)| labels.split(',')).into_iter().flatten();
            let labels = labels.filter_map(|label| label.split('=').next()).filter(|label| *label != "le");
            let labels = labels.collect::<Vec<_>>().join(",");
            let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
            format!("`{name}{labels}` | {kind}")
        });
        rows.collect()
    }

    #[test]
    fn readme_has_a_row_for_each_metric_with_its_labels_and_type_and_no_other() {
        let readme = include_str!("../../README.md");
        let table = readme.split("\n## The operator's metrics\n").nth(1).unwrap_or_default();
        let table = table.split("\n## ").next().unwrap_or_default();
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
        let rows = rows.map(|row| format!("`{}", row.split(" | ").take(2).collect::<Vec<_>>().join(" | ")));
        assert_eq!(rows.collect::<BTreeSet<_>>(), registered());
    }
}
