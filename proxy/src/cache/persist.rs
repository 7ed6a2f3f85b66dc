//! Between what is known and how it is written.

use std::sync::Arc;

use bytes::Bytes;

use super::collection::{Collection, Member};
use super::facts::Fact;
use super::form::{Form, Forms};
use super::grants::{Grant, Granted};
use super::record::{
    CollectionRecord, ColumnsRecord, FactRecord, GrantKey, GrantRecord, GrantedRecord,
    MemberRecord, ResponseRecord, ScopeRecord,
};
use super::responses::{ResponseFact, ResponseKey};
use super::shares::Owner;
use super::traits::Traits;
use crate::identity::ServiceAccount;
use crate::request_info::{GroupVersionResource, ObjectKey, Scope};

pub(super) fn fact(fact: &Fact) -> FactRecord {
    FactRecord {
        uid: fact.uid.to_string(),
        resource_version: fact.resource_version,
        kind: fact.kind.to_string(),
        bare: fact.bare,
        has_json: fact.has_json,
        len: fact.len,
        learnt: fact.learnt,
        labels: fact.traits.labels(),
        fields: fact.traits.fields(),
    }
}

pub(super) fn restore_fact(
    record: FactRecord,
    version: Arc<str>,
    form: Form,
    kind: Arc<str>,
    traits: Traits,
) -> Fact {
    Fact {
        version,
        form,
        uid: record.uid.into(),
        resource_version: record.resource_version,
        kind,
        bare: record.bare,
        has_json: record.has_json,
        len: record.len,
        learnt: record.learnt,
        confirmed: record.learnt,
        traits,
        unbeaten: None,
        listed_until: 0,
    }
}

pub(super) fn collection(collection: &Collection) -> CollectionRecord {
    CollectionRecord {
        scope: scope(&collection.scope),
        form: collection.form.word().to_owned(),
        resource_version: collection.resource_version,
        confirmed: collection.confirmed,
        members: collection.members().len() as u64,
        kind: collection.kind.to_string(),
        list_kind: collection.list_kind.to_string(),
    }
}

/// `None`: its form is not one of ours.
pub(super) fn restore_collection(record: CollectionRecord) -> Option<Collection> {
    let form = Form::parse(&record.form)?;
    let (kind, list_kind) = (record.kind.into(), record.list_kind.into());
    let mut collection = Collection::new(restore_scope(record.scope), form, kind, list_kind);
    collection.restore(record.resource_version, record.confirmed);
    Some(collection)
}

pub(super) fn member(member: Member) -> MemberRecord {
    MemberRecord {
        resource_version: member.resource_version,
        added: member.added,
    }
}

pub(super) fn restore_member(record: &MemberRecord) -> Member {
    Member {
        resource_version: record.resource_version,
        added: record.added,
    }
}

pub(super) fn response(key: &ResponseKey, fact: &ResponseFact) -> ResponseRecord {
    ResponseRecord {
        path: key.path.clone(),
        accept: key.accept.clone(),
        content_type: fact.content_type.clone(),
        etag: fact.etag.clone(),
        len: fact.len,
        learnt: fact.learnt,
    }
}

pub(super) fn restore_response(record: ResponseRecord) -> (ResponseKey, ResponseFact) {
    let key = ResponseKey {
        path: record.path,
        accept: record.accept,
    };
    let fact = ResponseFact {
        content_type: record.content_type,
        etag: record.etag,
        len: record.len,
        learnt: record.learnt,
        used: record.learnt,
        owner: Owner::NOBODY,
    };
    (key, fact)
}

pub(super) fn columns(resource: &GroupVersionResource, columns: &[u8]) -> ColumnsRecord {
    ColumnsRecord {
        group: resource.group.clone(),
        version: resource.version.clone(),
        resource: resource.resource.clone(),
        columns: String::from_utf8_lossy(columns).into_owned(),
    }
}

pub(super) fn restore_columns(record: ColumnsRecord) -> (GroupVersionResource, Bytes) {
    let resource = GroupVersionResource {
        group: record.group,
        version: record.version,
        resource: record.resource,
    };
    (resource, record.columns.into())
}

pub(super) fn grant(grant: Grant) -> GrantRecord {
    GrantRecord {
        at: grant.at,
        forms: grant.forms.bits(),
    }
}

pub(super) fn restore_grant_value(record: GrantRecord) -> Grant {
    Grant {
        at: record.at,
        forms: Forms::from_bits(record.forms),
    }
}

pub(super) fn grant_key(caller: &ServiceAccount, granted: &Granted) -> GrantKey {
    let of = match granted {
        Granted::Scope(granted) => GrantedRecord::Scope(scope(granted)),
        Granted::Path(path) => GrantedRecord::Path(path.clone()),
        Granted::Object(key) => GrantedRecord::Object {
            group: key.resource.group.clone(),
            version: key.resource.version.clone(),
            resource: key.resource.resource.clone(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        },
        Granted::GetRefused(key) => GrantedRecord::GetRefused {
            group: key.resource.group.clone(),
            version: key.resource.version.clone(),
            resource: key.resource.resource.clone(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        },
    };
    GrantKey {
        caller_namespace: caller.namespace.clone(),
        caller_name: caller.name.clone(),
        caller_uid: caller.uid.clone(),
        of,
    }
}

pub(super) fn restore_grant(key: GrantKey) -> (ServiceAccount, Granted) {
    let caller = ServiceAccount {
        namespace: key.caller_namespace,
        name: key.caller_name,
        uid: key.caller_uid,
    };
    let object = |group, version, resource, namespace, name| ObjectKey {
        resource: GroupVersionResource {
            group,
            version,
            resource,
        },
        namespace,
        name,
    };
    let granted = match key.of {
        GrantedRecord::Scope(scope) => Granted::Scope(restore_scope(scope)),
        GrantedRecord::Path(path) => Granted::Path(path),
        GrantedRecord::Object {
            group,
            version,
            resource,
            namespace,
            name,
        } => Granted::Object(object(group, version, resource, namespace, name)),
        GrantedRecord::GetRefused {
            group,
            version,
            resource,
            namespace,
            name,
        } => Granted::GetRefused(object(group, version, resource, namespace, name)),
    };
    (caller, granted)
}

fn scope(scope: &Scope) -> ScopeRecord {
    ScopeRecord {
        group: scope.resource.group.clone(),
        version: scope.resource.version.clone(),
        resource: scope.resource.resource.clone(),
        namespace: scope.namespace.clone(),
        label_selector: scope.label_selector.clone(),
        field_selector: scope.field_selector.clone(),
    }
}

fn restore_scope(record: ScopeRecord) -> Scope {
    Scope {
        resource: GroupVersionResource {
            group: record.group,
            version: record.version,
            resource: record.resource,
        },
        namespace: record.namespace,
        label_selector: record.label_selector,
        field_selector: record.field_selector,
    }
}
