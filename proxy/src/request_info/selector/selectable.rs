//! Which fields a resource can be selected by.
//!
//! Sources: `kubernetes:pkg/apis/*/v1/conversion.go` for the names, `kubernetes:pkg/registry/*/*/strategy.go` for what they are compared with,
//! `apimachinery:pkg/runtime/conversion.go` and `apiextensions-apiserver:pkg/apiserver/conversion/converter.go` for all other resources.
//! The versions of a resource do not differ.

const METADATA: &[&str] = &["metadata.name", "metadata.namespace"];

const PODS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "spec.host",
    "spec.hostNetwork",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.nominatedNodeName",
    "status.phase",
    "status.podIP",
    // Permitted there, but compared with nothing: always empty.
    "status.podIPs",
];

const CORE_EVENTS: &[&str] = &[
    "involvedObject.apiVersion",
    "involvedObject.fieldPath",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.resourceVersion",
    "involvedObject.uid",
    "metadata.name",
    "metadata.namespace",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

const EVENTS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "reason",
    "regarding.apiVersion",
    "regarding.fieldPath",
    "regarding.kind",
    "regarding.name",
    "regarding.namespace",
    "regarding.resourceVersion",
    "regarding.uid",
    "reportingController",
    "type",
];

/// The names that a field selector may have for this resource, sorted; every other one is a 400.
///
/// Two things can't be told from here: a CustomResourceDefinition may add `selectableFields` of its own, and a custom resource
/// without namespaces has no `metadata.namespace`.
pub fn selectable_fields(group: &str, resource: &str) -> &'static [&'static str] {
    match (group, resource) {
        ("", "pods") => PODS,
        ("", "events") => CORE_EVENTS,
        ("events.k8s.io", "events") => EVENTS,
        ("", "nodes") => &["metadata.name", "spec.unschedulable"],
        ("", "namespaces") => &["metadata.name", "status.phase"],
        ("", "secrets") => &["metadata.name", "metadata.namespace", "type"],
        ("", "services") => &[
            "metadata.name",
            "metadata.namespace",
            "spec.clusterIP",
            "spec.type",
        ],
        ("", "replicationcontrollers") => {
            &["metadata.name", "metadata.namespace", "status.replicas"]
        }
        ("batch", "jobs") => &["metadata.name", "metadata.namespace", "status.successful"],
        ("certificates.k8s.io", "certificatesigningrequests" | "clustertrustbundles") => {
            &["metadata.name", "spec.signerName"]
        }
        ("certificates.k8s.io", "podcertificaterequests") => &[
            "metadata.name",
            "spec.nodeName",
            "spec.podName",
            "spec.signerName",
        ],
        ("resource.k8s.io", "resourceslices") => &["metadata.name", "spec.driver", "spec.nodeName"],
        _ => METADATA,
    }
}

/// The name that `field` is compared under; `None` for one that the resource can't be selected by.
pub(super) fn compared_as(group: &str, resource: &str, field: &str) -> Option<&'static str> {
    let index = selectable_fields(group, resource)
        .binary_search(&field)
        .ok()?;
    match selectable_fields(group, resource)[index] {
        // The name that clients of the first releases send.
        "spec.host" => Some("spec.nodeName"),
        same => Some(same),
    }
}
