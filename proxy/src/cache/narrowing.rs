//! The part of a wider collection that a scope asks for, and what tells whether an object is in it.

use super::collection::Collection;
use super::form::Form;
use super::key::{ObjectId, is_unfiltered};
use super::traits::Traits;
use crate::bugs::{self, Bug};
use crate::request_info::Scope;
use crate::request_info::selector::{FieldOperator, FieldSelector, LabelSelector};

const NAME: &str = "metadata.name";
const NAMESPACE: &str = "metadata.namespace";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Narrowing {
    namespace: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
    /// The collection is wider than what its objects hold: they may enter and leave by a change of their own.
    is_evaluated: bool,
}

impl Narrowing {
    /// `None`: not all of `scope` is in the collection, or what is of it cannot be told: a selector that the API server
    /// itself would refuse, or one that asks for what this form of the objects does not show.
    pub(super) fn of(collection: &Collection, scope: &Scope) -> Option<Self> {
        let wide = &collection.scope;
        if wide.resource != scope.resource {
            return None;
        }
        if wide.namespace.is_some() && wide.namespace != scope.namespace {
            return None;
        }
        let same_selectors = wide.label_selector == scope.label_selector
            && wide.field_selector == scope.field_selector;
        if !same_selectors && !is_unfiltered(wide) {
            return None;
        }
        match Self::of_scope(scope, collection.form) {
            Some(mut narrowing) => {
                narrowing.is_evaluated = !same_selectors && narrowing.looks_into_objects();
                Some(narrowing)
            }
            // The upstream chose its members; all of them are asked for.
            None if same_selectors => Some(Self {
                namespace: scope.namespace.clone(),
                ..Self::default()
            }),
            None => None,
        }
    }

    /// What is in the scope, as objects of this form tell. `None`: they do not.
    pub(super) fn of_scope(scope: &Scope, form: Form) -> Option<Self> {
        let labels = LabelSelector::parse(&scope.label_selector).ok()?;
        let fields = FieldSelector::parse(&scope.field_selector).ok()?;
        let resource = &scope.resource;
        let fields = fields
            .of_resource(&resource.group, &resource.resource)
            .ok()?;
        let is_shown = |field: &str| match form {
            Form::Object(_) => true,
            Form::Metadata(_) | Form::Row | Form::WholeRow | Form::Yaml => {
                matches!(field, NAME | NAMESPACE)
            }
        };
        let mut required = fields.requirements().iter();
        if !required.all(|requirement| is_shown(&requirement.field)) {
            return None;
        }
        Some(Self {
            namespace: scope.namespace.clone(),
            labels,
            fields,
            is_evaluated: false,
        })
    }

    /// Whether an object of this name can be in it, whatever it holds.
    pub(super) fn may_hold(&self, id: &ObjectId) -> bool {
        let mut fields = self.fields.requirements().iter();
        id.is_in(self.namespace.as_deref())
            && fields.all(|required| {
                let named = match required.field.as_str() {
                    NAME => id.name(),
                    NAMESPACE => id.namespace(),
                    _ => return true,
                };
                (named == required.value) == (required.operator == FieldOperator::Equals)
            })
    }

    /// Whether this very object is in it.
    pub(super) fn holds(&self, id: &ObjectId, traits: &Traits) -> bool {
        let field = |name: &str| match name {
            NAME => Some(id.name()),
            NAMESPACE => Some(id.namespace()),
            name => traits.field(name),
        };
        self.may_hold(id)
            && (self.labels.matches(|name| traits.label(name)) || bugs::is_on(Bug::WrongSelector))
            && self.fields.matches(field)
    }

    pub(super) fn is_evaluated(&self) -> bool {
        self.is_evaluated
    }

    /// Whether more than an object's name tells whether it is in it.
    pub(super) fn looks_into_objects(&self) -> bool {
        let by_name = |field: &str| matches!(field, NAME | NAMESPACE);
        let mut fields = self.fields.requirements().iter();
        !self.labels.is_empty() || fields.any(|requirement| !by_name(&requirement.field))
    }
}

/// The name that a scope's selectors ask for, when they ask for nothing else.
pub(super) fn only_name(scope: &Scope) -> Option<String> {
    // Most scopes ask for something else, and many are looked at for one answer.
    if !scope.label_selector.is_empty() || !scope.field_selector.starts_with(NAME) {
        return None;
    }
    let fields = FieldSelector::parse(&scope.field_selector).ok()?;
    match fields.requirements() {
        [only] if only.field == NAME && only.operator == FieldOperator::Equals => {
            Some(only.value.clone())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_info::GroupVersionResource;
    use crate::request_info::accept::Encoding;

    fn scope(namespace: Option<&str>, label: &str, field: &str) -> Scope {
        Scope {
            resource: GroupVersionResource {
                group: String::new(),
                version: "v1".to_owned(),
                resource: "pods".to_owned(),
            },
            namespace: namespace.map(str::to_owned),
            label_selector: label.to_owned(),
            field_selector: field.to_owned(),
        }
    }

    #[test]
    fn a_wider_collection_is_narrowed_by_what_can_be_told_of_its_objects() {
        let all = scope(None, "", "");
        let in_a = scope(Some("a"), "", "");
        let labelled = scope(None, "app=x", "");
        let table = [
            (&all, scope(Some("a"), "", ""), true),
            (&all, scope(None, "", "metadata.name=x"), true),
            (
                &all,
                scope(None, "", "metadata.namespace==a,metadata.name=x"),
                true,
            ),
            (&all, scope(Some("a"), "", "metadata.namespace=b"), true),
            (&all, scope(None, "", "metadata.name!=x"), true),
            (&all, scope(None, "", "spec.nodeName=n"), true),
            (&all, scope(None, "app=x", ""), true),
            (&all, scope(None, "app=", ""), true),
            (&all, scope(None, "app in x", ""), false),
            (&all, scope(None, "", "spec.color=red"), false),
            (&in_a, scope(None, "", ""), false),
            (&in_a, scope(Some("b"), "", ""), false),
            (&in_a, scope(Some("a"), "", "metadata.name=x"), true),
            (&labelled, scope(Some("a"), "app=x", ""), true),
            (
                &labelled,
                scope(Some("a"), "app=x", "metadata.name=y"),
                false,
            ),
            (&labelled, scope(None, "", ""), false),
        ];
        for (wide, scope, expected) in table {
            assert_eq!(
                narrowing(wide, Form::JSON, &scope).is_some(),
                expected,
                "{wide:?} {scope:?}"
            );
        }
    }

    fn narrowing(wide: &Scope, form: Form, scope: &Scope) -> Option<Narrowing> {
        let collection = Collection::new(wide.clone(), form, "Pod".into(), "PodList".into());
        Narrowing::of(&collection, scope)
    }

    #[test]
    fn metadata_alone_does_not_show_other_fields() {
        let all = scope(None, "", "");
        let of_metadata = |scope: &Scope| narrowing(&all, Form::Metadata(Encoding::Json), scope);
        assert!(of_metadata(&scope(None, "app=x", "")).is_some());
        assert!(of_metadata(&scope(None, "", "metadata.name!=x")).is_some());
        assert_eq!(of_metadata(&scope(None, "", "spec.nodeName=n")), None);
        let on_node = scope(None, "", "spec.nodeName=n");
        let same = narrowing(&on_node, Form::Metadata(Encoding::Json), &on_node);
        assert!(same.is_some(), "the upstream chose its members");
    }

    #[test]
    fn a_selector_that_asks_for_one_name_is_told() {
        assert_eq!(
            only_name(&scope(None, "", "metadata.name=x")).as_deref(),
            Some("x")
        );
        assert_eq!(only_name(&scope(None, "a=b", "metadata.name=x")), None);
        assert_eq!(
            only_name(&scope(None, "", "metadata.name=x,status.phase=y")),
            None
        );
        assert_eq!(only_name(&scope(None, "", "")), None);
    }
}
