//! The fields of an object that a field selector is compared with, apart from its name and namespace.
//!
//! Sources: `kubernetes:pkg/registry/*/*/strategy.go` for what is compared, `api:*/generated.proto` for the numbers.
//! The fields of these kinds have the same places in every version that is served.

mod read;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use self::read::{read_json, read_protobuf};
use super::{WireError, json, protobuf};
use crate::request_info::accept::Encoding;

/// One field: its name in a selector and the two ways to it, which have the same steps.
struct Field {
    name: &'static str,
    /// Keys, with dots between them.
    json: &'static str,
    protobuf: &'static [u32],
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// false when absent.
    Flag,
    /// An int32, 0 when absent.
    Number,
}

// Fields that share the beginning of their way stand next to each other.

const PODS: &[Field] = &[
    text("spec.restartPolicy", &[2, 3]),
    text("spec.serviceAccountName", &[2, 8]),
    text("spec.nodeName", &[2, 10]),
    flag("spec.hostNetwork", &[2, 11]),
    text("spec.schedulerName", &[2, 19]),
    text("status.phase", &[3, 1]),
    // The first of podIPs, which is what is compared there (`kubernetes:pkg/apis/core/v1/conversion.go`).
    text("status.podIP", &[3, 6]),
    text("status.nominatedNodeName", &[3, 11]),
];
const NODES: &[Field] = &[flag("spec.unschedulable", &[2, 4])];
const NAMESPACES: &[Field] = &[text("status.phase", &[3, 1])];
const SECRETS: &[Field] = &[text("type", &[3])];
const SERVICES: &[Field] = &[text("spec.clusterIP", &[2, 3]), text("spec.type", &[2, 4])];
const REPLICATION_CONTROLLERS: &[Field] = &[number("status.replicas", &[3, 1])];
const CORE_EVENTS: &[Field] = &[
    text("involvedObject.kind", &[2, 1]),
    text("involvedObject.namespace", &[2, 2]),
    text("involvedObject.name", &[2, 3]),
    text("involvedObject.uid", &[2, 4]),
    text("involvedObject.apiVersion", &[2, 5]),
    text("involvedObject.resourceVersion", &[2, 6]),
    text("involvedObject.fieldPath", &[2, 7]),
    text("reason", &[3]),
    text("source", &[5, 1]).found_at("source.component"),
    text("type", &[9]),
    text("reportingComponent", &[14]),
];
const EVENTS: &[Field] = &[
    text("reportingController", &[4]),
    text("reason", &[7]),
    text("regarding.kind", &[8, 1]),
    text("regarding.namespace", &[8, 2]),
    text("regarding.name", &[8, 3]),
    text("regarding.uid", &[8, 4]),
    text("regarding.apiVersion", &[8, 5]),
    text("regarding.resourceVersion", &[8, 6]),
    text("regarding.fieldPath", &[8, 7]),
    text("type", &[11]),
];
const JOBS: &[Field] = &[number("status.successful", &[3, 5]).found_at("status.succeeded")];
const SIGNING_REQUESTS: &[Field] = &[text("spec.signerName", &[2, 7])];
const TRUST_BUNDLES: &[Field] = &[text("spec.signerName", &[2, 1])];
const POD_CERTIFICATE_REQUESTS: &[Field] = &[
    text("spec.signerName", &[2, 1]),
    text("spec.podName", &[2, 2]),
    text("spec.nodeName", &[2, 6]),
];
const RESOURCE_SLICES: &[Field] = &[text("spec.driver", &[2, 1]), text("spec.nodeName", &[2, 3])];

fn fields_of(group: &str, resource: &str) -> &'static [Field] {
    match (group, resource) {
        ("", "pods") => PODS,
        ("", "nodes") => NODES,
        ("", "namespaces") => NAMESPACES,
        ("", "secrets") => SECRETS,
        ("", "services") => SERVICES,
        ("", "replicationcontrollers") => REPLICATION_CONTROLLERS,
        ("", "events") => CORE_EVENTS,
        ("events.k8s.io", "events") => EVENTS,
        ("batch", "jobs") => JOBS,
        ("certificates.k8s.io", "certificatesigningrequests") => SIGNING_REQUESTS,
        ("certificates.k8s.io", "clustertrustbundles") => TRUST_BUNDLES,
        ("certificates.k8s.io", "podcertificaterequests") => POD_CERTIFICATE_REQUESTS,
        ("resource.k8s.io", "resourceslices") => RESOURCE_SLICES,
        _ => &[],
    }
}

const fn text(name: &'static str, protobuf: &'static [u32]) -> Field {
    Field {
        name,
        json: name,
        protobuf,
        kind: Kind::Text,
    }
}

const fn flag(name: &'static str, protobuf: &'static [u32]) -> Field {
    Field {
        kind: Kind::Flag,
        ..text(name, protobuf)
    }
}

const fn number(name: &'static str, protobuf: &'static [u32]) -> Field {
    Field {
        kind: Kind::Number,
        ..text(name, protobuf)
    }
}

impl Field {
    /// Elsewhere in the object than its name says.
    const fn found_at(self, json: &'static str) -> Self {
        Self { json, ..self }
    }

    fn is_last(&self, depth: usize) -> bool {
        self.protobuf.len() == depth + 1
    }
}

/// The values found, each in the place of its field.
type Found = [Option<String>];

/// What of this object a field selector can be compared with, by the names that
/// [`selectable_fields`](crate::request_info::selector::selectable_fields) has. What is missing is the empty one. No kind but a few has such fields.
///
/// The object is a whole one, not its metadata alone nor a row of a table: a JSON value, of which every byte is looked at; a protobuf message,
/// enveloped unless `bare`.
pub fn read_fields(
    group: &str,
    resource: &str,
    encoding: Encoding,
    object: &Bytes,
    bare: bool,
) -> Result<Vec<(&'static str, String)>, WireError> {
    let fields = fields_of(group, resource);
    if fields.is_empty() {
        return match encoding {
            Encoding::Json => json::check(object, bare).map(|()| Vec::new()),
            Encoding::Protobuf => Ok(Vec::new()),
        };
    }
    let mut found = vec![None; fields.len()];
    match encoding {
        Encoding::Json => {
            read_json(object, fields, &mut found)?;
            json::check_head(object, bare)?;
        }
        Encoding::Protobuf if bare => read_protobuf(object, fields, &mut found)?,
        Encoding::Protobuf => {
            let raw = protobuf::open_envelope(object)?.raw;
            read_protobuf(&raw, fields, &mut found)?;
        }
    }
    let values = found.into_iter().zip(fields);
    let mut values: Vec<_> = values
        .map(|(value, field)| (field.name, value.unwrap_or_else(|| field.kind.absent())))
        .filter(|(_, value)| !value.is_empty())
        .collect();
    if (group, resource) == ("", "events") {
        name_source(&mut values);
    }
    Ok(values)
}

/// An event without a source has the component that reported it.
fn name_source(values: &mut Vec<(&'static str, String)>) {
    if values.iter().any(|(name, _)| *name == "source") {
        return;
    }
    let reporting = values
        .iter()
        .find(|(name, _)| *name == "reportingComponent");
    if let Some((_, component)) = reporting {
        values.push(("source", component.clone()));
    }
}

impl Kind {
    fn absent(self) -> String {
        match self {
            Self::Text => "",
            Self::Flag => "false",
            Self::Number => "0",
        }
        .to_owned()
    }
}
