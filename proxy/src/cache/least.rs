//! What a caller was shown and what it wrote, kept for the next start: a process that was killed in between would otherwise
//! tell the caller something older than that, or an object that it deleted itself.

use super::grants::Granted;
use super::key::{GroupResource, ObjectId};
use super::least_rvs::LeastRvs;
use super::persist;
use super::record::{self, LeastRecord};
use super::state::{Keeping, State};
use super::store::Table;
use super::writing::encoded;
use crate::identity::ServiceAccount;
use crate::request_info::{GroupVersionResource, ObjectKey, Scope};

/// Of what a least RV is.
#[derive(Clone, Copy)]
pub(super) enum Least {
    /// A scope that a stream has shown, or an object that its caller wrote.
    Any,
    /// A list that holds an object which its caller was shown alone.
    Lists,
}

impl Least {
    /// Begins the keys of the records.
    pub(super) fn prefix(self) -> &'static [u8] {
        match self {
            Self::Any => b"least\0",
            Self::Lists => b"least list\0",
        }
    }
}

impl State {
    /// The caller was shown the scope as of this RV, and it is not kept.
    pub(super) fn note_shown(
        &mut self,
        caller: &ServiceAccount,
        scope: &Scope,
        resource_version: u64,
    ) {
        let noted = self.shown.note(caller, scope, resource_version);
        if let Some((caller, scope)) = noted.dropped {
            self.write_least(Least::Any, &caller, Granted::Scope(scope), None);
        }
        if noted.is_news {
            let scope = Granted::Scope(scope.clone());
            self.write_least(Least::Any, caller, scope, Some(resource_version));
        }
    }

    /// The caller wrote the object, or was shown it, and it has at least this RV since.
    pub(super) fn note_object(
        &mut self,
        caller: &ServiceAccount,
        (resource, id): (&GroupResource, &ObjectId),
        resource_version: u64,
    ) {
        let before = self.own_writes.least(caller, resource, id);
        let dropped = (self.own_writes).note(caller, resource, id, resource_version);
        for (caller, (resource, id)) in dropped {
            self.write_least(Least::Any, &caller, object(&resource, &id), None);
        }
        self.write_own(caller, (resource, id), before);
    }

    /// An answer about the object alone has shown it to the caller.
    pub(super) fn note_read_alone(
        &mut self,
        caller: &ServiceAccount,
        (resource, id): (&GroupResource, &ObjectId),
        resource_version: u64,
    ) {
        let lists_reach = {
            let collections = self.collections.of(resource);
            let lists = collections.filter(|(_, list)| id.is_in(list.scope.namespace.as_deref()));
            lists.map(|(_, list)| list.resource_version).min()
        };
        if lists_reach.is_none_or(|reached| reached < resource_version) {
            self.note_newer(caller, (resource, id), resource_version);
        }
    }

    /// The caller was shown the object, and a list may show it as it was before.
    pub(super) fn note_newer(
        &mut self,
        caller: &ServiceAccount,
        (resource, id): (&GroupResource, &ObjectId),
        resource_version: u64,
    ) {
        if self.read_alone.least(caller, resource, id) >= resource_version {
            return;
        }
        let dropped = (self.read_alone).note(caller, resource, id, resource_version);
        for (caller, (resource, id)) in dropped {
            self.write_least(Least::Lists, &caller, object(&resource, &id), None);
        }
        let of = object(resource, id);
        self.write_least(Least::Lists, caller, of, Some(resource_version));
    }

    /// See [`LeastRvs::shown`](super::least_rvs::LeastRvs::shown).
    pub(super) fn note_answer(
        &mut self,
        caller: &ServiceAccount,
        (resource, id): (&GroupResource, &ObjectId),
        noted: u64,
        resource_version: u64,
    ) {
        let before = self.own_writes.least(caller, resource, id);
        if before != noted {
            return self.note_object(caller, (resource, id), resource_version);
        }
        (self.own_writes).shown(caller, (resource, id), noted, resource_version);
        self.write_own(caller, (resource, id), before);
    }

    fn write_own(
        &mut self,
        caller: &ServiceAccount,
        (resource, id): (&GroupResource, &ObjectId),
        before: u64,
    ) {
        let least = self.own_writes.least(caller, resource, id);
        if least != before {
            self.write_least(Least::Any, caller, object(resource, id), Some(least));
        }
    }

    /// The RVs of this resource went back: what was shown or written never was.
    pub(super) fn forget_least(&mut self, resource: &GroupResource) {
        for (caller, (resource, id)) in self.own_writes.forget(resource) {
            self.write_least(Least::Any, &caller, object(&resource, &id), None);
        }
        for (caller, (resource, id)) in self.read_alone.forget(resource) {
            self.write_least(Least::Lists, &caller, object(&resource, &id), None);
        }
        for (caller, scope) in self.shown.forget(resource) {
            self.write_least(Least::Any, &caller, Granted::Scope(scope), None);
        }
    }

    fn write_least(
        &mut self,
        of_what: Least,
        caller: &ServiceAccount,
        of: Granted,
        least: Option<u64>,
    ) {
        let resource = match &of {
            Granted::Scope(scope) => &scope.resource,
            Granted::Object(object) | Granted::GetRefused(object) => &object.resource,
            Granted::Path(_) => return,
        };
        let resource = GroupResource::of(resource);
        // After a restart nothing is told of what was in memory only.
        if self.keeping(&resource) != Keeping::Disk {
            return;
        }
        let Ok(key) = record::encode(b"", &persist::grant_key(caller, &of)) else {
            return;
        };
        let key = [of_what.prefix(), &key].concat();
        let least = least.map(|resource_version| LeastRecord { resource_version });
        let value = least.and_then(|least| encoded(&key, &least));
        // With the state of a Node that it is of: its heartbeat alone is not written each time.
        self.put_row(&resource, Table::Meta, key, value);
    }

    /// To a new store.
    pub(super) fn write_least_again(&mut self) {
        let shown = self.shown.all();
        let shown = shown.map(|(who, scope, until)| {
            (
                Least::Any,
                who.clone(),
                Granted::Scope(scope.clone()),
                until,
            )
        });
        let objects = |of_what, least: &LeastRvs| {
            let all = least.all();
            let all = all.map(|(who, (resource, id), least)| {
                (of_what, who.clone(), object(resource, id), least)
            });
            all.collect::<Vec<_>>()
        };
        let mut all: Vec<_> = shown.collect();
        all.extend(objects(Least::Any, &self.own_writes));
        all.extend(objects(Least::Lists, &self.read_alone));
        for (of_what, caller, of, least) in all {
            self.write_least(of_what, &caller, of, Some(least));
        }
    }

    /// As it was written.
    pub(super) fn restore_least(
        &mut self,
        of_what: Least,
        caller: &ServiceAccount,
        of: Granted,
        least: u64,
    ) {
        match of {
            Granted::Scope(scope) => drop(self.shown.note(caller, &scope, least)),
            Granted::Object(object) => {
                let resource = GroupResource::of(&object.resource);
                if let Some(id) = ObjectId::of(&object) {
                    let kept = match of_what {
                        Least::Any => &mut self.own_writes,
                        Least::Lists => &mut self.read_alone,
                    };
                    drop(kept.note(caller, &resource, &id, least));
                }
            }
            Granted::Path(_) | Granted::GetRefused(_) => {}
        }
    }
}

/// Of no version: an object is the same in all.
fn object(resource: &GroupResource, id: &ObjectId) -> Granted {
    Granted::Object(ObjectKey {
        resource: GroupVersionResource {
            group: resource.group.clone(),
            version: String::new(),
            resource: resource.resource.clone(),
        },
        namespace: id.namespace().to_owned(),
        name: id.name().to_owned(),
    })
}
