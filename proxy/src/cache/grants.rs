//! The ledger of grants: what the upstream itself let each caller read. Facts are shared, grants are not.

use std::collections::HashMap;
use std::hash::Hash;

use super::form::{Form, Forms};
use super::key::is_unfiltered;
use super::narrowing::only_name;
use crate::identity::ServiceAccount;
use crate::request_info::{ObjectKey, Scope};

/// Grants of one kind that one caller can hold; the oldest make room.
const MAX_PER_CALLER: usize = 2048;
/// Service accounts that run on one node, many times over; the one that was granted nothing for longest makes room.
const MAX_CALLERS: usize = 1024;
/// A grant's time is brought up to date this often, in seconds: often enough for its age to mean something, rarely enough for a disk.
const REFRESH_AFTER: u64 = 600;

/// What a caller was let read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Granted {
    Scope(Scope),
    Object(ObjectKey),
    /// A non-resource path.
    Path(String),
    /// The opposite: a GET of this object was refused, whatever LIST may read.
    GetRefused(ObjectKey),
}

/// What changed in the ledger, to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Put(ServiceAccount, Granted, Grant),
    Remove(ServiceAccount, Granted),
}

/// When, and what was shown by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Grant {
    /// Unix seconds.
    pub(super) at: u64,
    /// Of a scope: the forms that its caller read it in.
    pub(super) forms: Forms,
}

#[derive(Default)]
pub(super) struct Grants {
    of: HashMap<ServiceAccount, CallerGrants>,
}

#[derive(Default)]
struct CallerGrants {
    scopes: HashMap<Scope, Grant>,
    objects: HashMap<ObjectKey, Grant>,
    paths: HashMap<String, Grant>,
    refused_gets: HashMap<ObjectKey, Grant>,
}

impl Grants {
    pub(super) fn count(&self) -> usize {
        self.of.values().map(CallerGrants::count).sum()
    }

    /// The upstream answered 2xx.
    pub(super) fn grant(
        &mut self,
        caller: &ServiceAccount,
        granted: Granted,
        grant: Grant,
    ) -> Vec<Change> {
        let mut changes = self.make_room(caller);
        let own = self.of.entry(caller.clone()).or_default();
        if let Granted::Object(key) = &granted
            && own.refused_gets.remove(key).is_some()
        {
            changes.push(Change::Remove(
                caller.clone(),
                Granted::GetRefused(key.clone()),
            ));
        }
        let (written, dropped) = own.insert(&granted, grant);
        changes.extend(dropped.map(|dropped| Change::Remove(caller.clone(), dropped)));
        changes.extend(written.map(|grant| Change::Put(caller.clone(), granted, grant)));
        changes
    }

    /// What would write the whole ledger.
    pub(super) fn all(&self) -> Vec<Change> {
        fn put<K: Clone>(
            caller: &ServiceAccount,
            of: &HashMap<K, Grant>,
            granted: fn(K) -> Granted,
        ) -> Vec<Change> {
            of.iter()
                .map(|(key, grant)| Change::Put(caller.clone(), granted(key.clone()), *grant))
                .collect()
        }
        let mut all = Vec::new();
        for (caller, own) in &self.of {
            all.extend(put(caller, &own.scopes, Granted::Scope));
            all.extend(put(caller, &own.objects, Granted::Object));
            all.extend(put(caller, &own.paths, Granted::Path));
            all.extend(put(caller, &own.refused_gets, Granted::GetRefused));
        }
        all
    }

    /// As it was written.
    pub(super) fn restore(&mut self, caller: ServiceAccount, granted: &Granted, grant: Grant) {
        self.of.entry(caller).or_default().insert(granted, grant);
    }

    fn make_room(&mut self, caller: &ServiceAccount) -> Vec<Change> {
        if self.of.len() < MAX_CALLERS || self.of.contains_key(caller) {
            return Vec::new();
        }
        let idle = self.of.iter().min_by_key(|(_, grants)| grants.latest());
        let Some(idle) = idle.map(|(caller, _)| caller.clone()) else {
            return Vec::new();
        };
        let grants = self.of.remove(&idle).unwrap_or_default();
        grants
            .all()
            .map(|granted| Change::Remove(idle.clone(), granted))
            .collect()
    }

    /// A LIST or WATCH was refused: takes back every grant that says otherwise, and those inside the scope.
    ///
    /// A refusal for all namespaces leaves the grants for single namespaces alone: a Role may well give just those.
    pub(super) fn refuse_scope(&mut self, caller: &ServiceAccount, scope: &Scope) -> Vec<Change> {
        let Some(own) = self.of.get_mut(caller) else {
            return Vec::new();
        };
        let scopes = own.scopes.extract_if(|granted, _| {
            covers(granted, scope)
                || is_inside(
                    granted.resource == scope.resource,
                    granted.namespace.as_deref(),
                    scope,
                )
        });
        let mut taken: Vec<Granted> = scopes.map(|(scope, _)| Granted::Scope(scope)).collect();
        if is_unfiltered(scope) {
            let objects = own.objects.extract_if(|object, _| {
                let namespace =
                    Some(object.namespace.as_str()).filter(|namespace| !namespace.is_empty());
                is_inside(object.resource == scope.resource, namespace, scope)
            });
            taken.extend(objects.map(|(object, _)| Granted::Object(object)));
        }
        taken
            .into_iter()
            .map(|granted| Change::Remove(caller.clone(), granted))
            .collect()
    }

    /// A GET was refused. LIST may be granted without it, so a wider grant stays, for lists only.
    pub(super) fn refuse_object(
        &mut self,
        caller: &ServiceAccount,
        object: &ObjectKey,
        now: u64,
    ) -> Vec<Change> {
        let Some(own) = self.of.get_mut(caller) else {
            return Vec::new();
        };
        let mut changes = Vec::new();
        if own.objects.remove(object).is_some() {
            changes.push(Change::Remove(
                caller.clone(),
                Granted::Object(object.clone()),
            ));
        }
        let refused = Granted::GetRefused(object.clone());
        let since = Grant {
            at: now,
            forms: Forms::default(),
        };
        let (written, dropped) = own.insert(&refused, since);
        changes.extend(dropped.map(|dropped| Change::Remove(caller.clone(), dropped)));
        changes.extend(written.map(|grant| Change::Put(caller.clone(), refused, grant)));
        changes
    }

    pub(super) fn refuse_path(&mut self, caller: &ServiceAccount, path: &str) -> Vec<Change> {
        match self
            .of
            .get_mut(caller)
            .and_then(|own| own.paths.remove(path))
        {
            Some(_) => vec![Change::Remove(
                caller.clone(),
                Granted::Path(path.to_owned()),
            )],
            None => Vec::new(),
        }
    }

    pub(super) fn covers_scope(&self, caller: &ServiceAccount, scope: &Scope) -> bool {
        self.of.get(caller).is_some_and(|own| {
            own.scopes.contains_key(scope)
                || own.scopes.keys().any(|granted| covers(granted, scope))
        })
    }

    /// A caller that was let read this very scope is shown it in this form, too. `None`: it was granted another one.
    pub(super) fn shown_in(
        &mut self,
        caller: &ServiceAccount,
        scope: &Scope,
        form: Form,
    ) -> Option<Vec<Change>> {
        let grant = self.of.get_mut(caller)?.scopes.get_mut(scope)?;
        let is_news = grant.forms.add(Forms::only(form));
        let put = || Change::Put(caller.clone(), Granted::Scope(scope.clone()), *grant);
        Some(is_news.then(put).into_iter().collect())
    }

    /// Whether the caller has read this very scope, in this form.
    pub(super) fn has_read(&self, caller: &ServiceAccount, scope: &Scope, form: Form) -> bool {
        let own = self.of.get(caller);
        let grant = own.and_then(|own| own.scopes.get(scope));
        grant.is_some_and(|grant| grant.forms.holds(form))
    }

    /// `is_member` says whether the object is in the complete collection of a (filtered) scope.
    pub(super) fn covers_object(
        &self,
        caller: &ServiceAccount,
        object: &ObjectKey,
        is_member: impl Fn(&Scope) -> bool,
    ) -> bool {
        let Some(own) = self.of.get(caller) else {
            return false;
        };
        if own.objects.contains_key(object) {
            return true;
        }
        if own.refused_gets.contains_key(object) {
            return false;
        }
        own.scopes
            .keys()
            .filter(|scope| scope.resource == object.resource)
            .filter(|scope| {
                scope
                    .namespace
                    .as_deref()
                    .is_none_or(|namespace| namespace == object.namespace)
            })
            .any(|scope| {
                is_unfiltered(scope)
                    || only_name(scope).is_some_and(|name| name == object.name)
                    || is_member(scope)
            })
    }

    pub(super) fn covers_path(&self, caller: &ServiceAccount, path: &str) -> bool {
        self.of
            .get(caller)
            .is_some_and(|own| own.paths.contains_key(path))
    }
}

/// Whether a grant for `granted` lets its caller read all of `scope`.
pub(super) fn covers(granted: &Scope, scope: &Scope) -> bool {
    let same_selectors = granted.label_selector == scope.label_selector
        && granted.field_selector == scope.field_selector;
    granted.resource == scope.resource
        && (granted.namespace.is_none() || granted.namespace == scope.namespace)
        && (is_unfiltered(granted) || same_selectors)
}

/// Whether what was granted in `namespace` falls with a refusal of `scope`.
fn is_inside(same_resource: bool, namespace: Option<&str>, scope: &Scope) -> bool {
    same_resource && is_unfiltered(scope) && namespace == scope.namespace.as_deref()
}

impl CallerGrants {
    fn count(&self) -> usize {
        self.scopes.len() + self.objects.len() + self.paths.len()
    }

    fn latest(&self) -> u64 {
        let times = self.scopes.values().chain(self.objects.values());
        times
            .chain(self.paths.values())
            .map(|grant| grant.at)
            .max()
            .unwrap_or_default()
    }

    fn all(self) -> impl Iterator<Item = Granted> {
        let scopes = self.scopes.into_keys().map(Granted::Scope);
        let objects = self.objects.into_keys().map(Granted::Object);
        let paths = self.paths.into_keys().map(Granted::Path);
        let refused = self.refused_gets.into_keys().map(Granted::GetRefused);
        scopes.chain(objects).chain(paths).chain(refused)
    }

    /// What is worth writing, and what had to make room.
    fn insert(&mut self, granted: &Granted, grant: Grant) -> (Option<Grant>, Option<Granted>) {
        match granted {
            Granted::Scope(scope) => insert(&mut self.scopes, scope, grant, Granted::Scope),
            Granted::Object(object) => insert(&mut self.objects, object, grant, Granted::Object),
            Granted::Path(path) => insert(&mut self.paths, path, grant, Granted::Path),
            Granted::GetRefused(object) => {
                insert(&mut self.refused_gets, object, grant, Granted::GetRefused)
            }
        }
    }
}

fn insert<K: Hash + Eq + Clone>(
    grants: &mut HashMap<K, Grant>,
    key: &K,
    grant: Grant,
    granted: impl Fn(K) -> Granted,
) -> (Option<Grant>, Option<Granted>) {
    if let Some(known) = grants.get_mut(key) {
        let is_old = grant.at.saturating_sub(known.at) >= REFRESH_AFTER;
        if is_old {
            known.at = grant.at;
        }
        let is_news = known.forms.add(grant.forms) || is_old;
        return (is_news.then_some(*known), None);
    }
    let mut dropped = None;
    if grants.len() >= MAX_PER_CALLER
        && let Some(oldest) = grants
            .iter()
            .min_by_key(|(_, grant)| grant.at)
            .map(|(key, _)| key.clone())
    {
        grants.remove(&oldest);
        dropped = Some(granted(oldest));
    }
    grants.insert(key.clone(), grant);
    (Some(grant), dropped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::caller;
    use crate::request_info::GroupVersionResource;

    fn pods() -> GroupVersionResource {
        GroupVersionResource {
            group: String::new(),
            version: "v1".to_owned(),
            resource: "pods".to_owned(),
        }
    }

    fn scope(namespace: Option<&str>, field_selector: &str) -> Scope {
        Scope {
            resource: pods(),
            namespace: namespace.map(str::to_owned),
            label_selector: String::new(),
            field_selector: field_selector.to_owned(),
        }
    }

    fn at(at: u64) -> Grant {
        let forms = Forms::default();
        Grant { at, forms }
    }

    fn object(namespace: &str, name: &str) -> ObjectKey {
        ObjectKey {
            resource: pods(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    fn granted(scopes: &[Scope]) -> Grants {
        let mut grants = Grants::default();
        for scope in scopes {
            grants.grant(&caller("x"), Granted::Scope(scope.clone()), at(0));
        }
        grants
    }

    #[test]
    fn a_grant_covers_narrower_scopes_and_the_objects_inside() {
        let grants = granted(&[scope(Some("a"), "")]);
        let covers = |scope: &Scope| grants.covers_scope(&caller("x"), scope);
        assert!(covers(&scope(Some("a"), "")));
        assert!(covers(&scope(Some("a"), "spec.nodeName=n")));
        assert!(!covers(&scope(None, "")));
        assert!(!covers(&scope(Some("b"), "")));
        let reads = |object: &ObjectKey| grants.covers_object(&caller("x"), object, |_| false);
        assert!(reads(&object("a", "p")));
        assert!(!reads(&object("b", "p")));
    }

    #[test]
    fn one_callers_grants_are_not_anothers() {
        let grants = granted(&[scope(None, "")]);
        assert!(!grants.covers_scope(&caller("y"), &scope(None, "")));
        assert!(!grants.covers_object(&caller("y"), &object("a", "p"), |_| true));
        let mut recreated = caller("x");
        recreated.uid = "2".to_owned();
        assert!(!grants.covers_scope(&recreated, &scope(None, "")));
    }

    #[test]
    fn a_filtered_grant_covers_its_own_selector_and_its_members() {
        let grants = granted(&[scope(None, "spec.nodeName=n")]);
        let covers = |scope: &Scope| grants.covers_scope(&caller("x"), scope);
        assert!(covers(&scope(Some("a"), "spec.nodeName=n")));
        assert!(!covers(&scope(Some("a"), "")));
        assert!(!covers(&scope(None, "spec.nodeName=m")));
        let reads = |member| grants.covers_object(&caller("x"), &object("a", "p"), |_| member);
        assert!(reads(true));
        assert!(!reads(false));
    }

    #[test]
    fn a_list_of_one_name_covers_a_get_of_it() {
        let grants = granted(&[scope(Some("a"), "metadata.name=p")]);
        let reads = |object: &ObjectKey| grants.covers_object(&caller("x"), object, |_| false);
        assert!(reads(&object("a", "p")));
        assert!(!reads(&object("a", "q")));
        assert!(!reads(&object("b", "p")));
    }

    #[test]
    fn a_get_covers_that_object_alone() {
        let mut grants = Grants::default();
        grants.grant(&caller("x"), Granted::Object(object("a", "p")), at(0));
        assert!(grants.covers_object(&caller("x"), &object("a", "p"), |_| false));
        assert!(!grants.covers_object(&caller("x"), &object("a", "q"), |_| false));
        assert!(!grants.covers_scope(&caller("x"), &scope(Some("a"), "metadata.name=p")));
    }

    #[test]
    fn a_refused_list_takes_back_what_says_otherwise_and_what_is_inside() {
        let mut grants = granted(&[
            scope(None, ""),
            scope(Some("a"), "spec.nodeName=n"),
            scope(Some("b"), ""),
        ]);
        grants.grant(&caller("x"), Granted::Object(object("a", "p")), at(0));
        let taken = grants.refuse_scope(&caller("x"), &scope(Some("a"), ""));
        assert_eq!(taken.len(), 3);
        assert!(!grants.covers_scope(&caller("x"), &scope(Some("a"), "")));
        assert!(!grants.covers_object(&caller("x"), &object("a", "p"), |_| true));
        assert!(grants.covers_scope(&caller("x"), &scope(Some("b"), "")));
    }

    #[test]
    fn a_refusal_for_all_namespaces_leaves_the_grant_for_one() {
        let mut grants = granted(&[scope(Some("a"), "")]);
        assert_eq!(grants.refuse_scope(&caller("x"), &scope(None, "")), vec![]);
        assert!(grants.covers_scope(&caller("x"), &scope(Some("a"), "")));
    }

    #[test]
    fn a_refused_get_leaves_the_list_and_a_later_grant_ends_it() {
        let mut grants = granted(&[scope(Some("a"), "")]);
        let key = object("a", "p");
        grants.refuse_object(&caller("x"), &key, 0);
        assert!(!grants.covers_object(&caller("x"), &key, |_| true));
        assert!(grants.covers_object(&caller("x"), &object("a", "q"), |_| true));
        assert!(grants.covers_scope(&caller("x"), &scope(Some("a"), "")));
        grants.grant(&caller("x"), Granted::Object(key.clone()), at(0));
        assert!(grants.covers_object(&caller("x"), &key, |_| false));
    }

    #[test]
    fn a_known_grant_is_written_again_only_now_and_then() {
        let mut grants = Grants::default();
        let grant = |grants: &mut Grants, now| {
            grants
                .grant(&caller("x"), Granted::Scope(scope(None, "")), at(now))
                .len()
        };
        assert_eq!(grant(&mut grants, 0), 1);
        assert_eq!(grant(&mut grants, REFRESH_AFTER - 1), 0);
        assert_eq!(grant(&mut grants, REFRESH_AFTER), 1);
        let read_in = |form| Grant {
            at: REFRESH_AFTER,
            forms: Forms::only(form),
        };
        for (form, written) in [(Form::JSON, 1), (Form::Row, 1), (Form::JSON, 0)] {
            let granted = Granted::Scope(scope(None, ""));
            let changes = grants.grant(&caller("x"), granted, read_in(form));
            assert_eq!(changes.len(), written, "{form:?}");
            assert!(grants.has_read(&caller("x"), &scope(None, ""), form));
        }
        assert!(!grants.has_read(&caller("x"), &scope(None, ""), Form::Yaml));
    }

    #[test]
    fn grants_are_bounded_and_the_oldest_make_room() {
        let mut grants = Grants::default();
        for n in 0..=MAX_PER_CALLER {
            grants.grant(
                &caller("x"),
                Granted::Object(object("a", &n.to_string())),
                at(n as u64),
            );
        }
        assert_eq!(grants.count(), MAX_PER_CALLER);
        assert!(!grants.covers_object(&caller("x"), &object("a", "0"), |_| false));
        for n in 0..=MAX_CALLERS {
            grants.grant(
                &caller(&n.to_string()),
                Granted::Path("/version".to_owned()),
                at(1 << 20),
            );
        }
        assert_eq!(grants.of.len(), MAX_CALLERS);
    }
}
