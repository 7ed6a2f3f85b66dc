//! Selectors, and the fields of an object that they are compared with.

use bytes::Bytes;
use holdfast::cache::wire::{envelope, read_fields, with_type_meta};
use holdfast::request_info::accept::Encoding;
use holdfast::request_info::selector::{
    FieldOperator, FieldRequirement, FieldSelector, LabelOperator, LabelRequirement, LabelSelector,
    selectable_fields,
};

/// Every resource with fields of its own, and one without.
const RESOURCES: [(&str, &str); 14] = [
    ("", "pods"),
    ("", "nodes"),
    ("", "namespaces"),
    ("", "secrets"),
    ("", "services"),
    ("", "replicationcontrollers"),
    ("", "events"),
    ("events.k8s.io", "events"),
    ("batch", "jobs"),
    ("certificates.k8s.io", "certificatesigningrequests"),
    ("certificates.k8s.io", "clustertrustbundles"),
    ("certificates.k8s.io", "podcertificaterequests"),
    ("resource.k8s.io", "resourceslices"),
    ("", "configmaps"),
];

/// A label selector and a field selector: what was read of it, written again, reads the same.
pub fn selectors(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(selector) = LabelSelector::parse(text) {
        let terms: Vec<_> = selector.requirements().iter().map(label_term).collect();
        assert_eq!(LabelSelector::parse(&terms.join(" ,\t")), Ok(selector));
    }
    if let Ok(selector) = FieldSelector::parse(text) {
        let terms: Vec<_> = selector.requirements().iter().map(field_term).collect();
        let again = FieldSelector::parse(&terms.join(",")).expect("its own words");
        // Sorted by their text, in which `==` may have been `=`.
        for requirement in selector.requirements() {
            assert!(again.requirements().contains(requirement));
        }
        assert_eq!(again.requirements().len(), selector.requirements().len());
        of_each_resource(selector);
    }
}

/// The first byte chooses the resource, the second the encoding, the rest is the object.
pub fn fields(data: &[u8]) {
    let [resource, encoding, object @ ..] = data else {
        return;
    };
    let (group, resource) = RESOURCES[usize::from(*resource) % RESOURCES.len()];
    let bare = Bytes::copy_from_slice(object);
    let (encoding, whole) = if encoding % 2 == 0 {
        (Encoding::Json, with_type_meta(&bare, "v1", "Kind"))
    } else {
        (Encoding::Protobuf, envelope("v1", "Kind", &bare))
    };
    let Ok(read) = read_fields(group, resource, encoding, &bare, true) else {
        return;
    };
    for (name, value) in &read {
        assert!(selectable_fields(group, resource).contains(name) && !value.is_empty());
    }
    let of_whole = read_fields(group, resource, encoding, &whole, false);
    assert_eq!(of_whole, Ok(read), "TypeMeta and envelope change nothing");
}

fn label_term(requirement: &LabelRequirement) -> String {
    let key = &requirement.key;
    match &requirement.operator {
        LabelOperator::Exists => key.clone(),
        LabelOperator::DoesNotExist => format!("!{key}"),
        LabelOperator::In(values) => format!("{key} in ({})", values.join(",")),
        LabelOperator::NotIn(values) => format!("{key} notin ({})", values.join(",")),
        LabelOperator::GreaterThan(number) => format!("{key}>{number}"),
        LabelOperator::LessThan(number) => format!("{key}<{number}"),
    }
}

fn field_term(requirement: &FieldRequirement) -> String {
    let operator = match requirement.operator {
        FieldOperator::Equals => "=",
        FieldOperator::NotEquals => "!=",
    };
    let mut term = format!("{}{operator}", requirement.field);
    for character in requirement.value.chars() {
        if matches!(character, '\\' | ',' | '=') {
            term.push('\\');
        }
        term.push(character);
    }
    term
}

/// A resource takes a selector when it has all of its fields.
fn of_each_resource(selector: FieldSelector) {
    for (group, resource) in RESOURCES {
        let fields = selectable_fields(group, resource);
        let mut named = selector.requirements().iter();
        let has_all = named.all(|requirement| fields.contains(&requirement.field.as_str()));
        let taken = selector.clone().of_resource(group, resource);
        assert_eq!(taken.is_ok(), has_all, "{group}/{resource}");
    }
}
