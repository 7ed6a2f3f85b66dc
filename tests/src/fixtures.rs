//! What the demo's cluster holds: a shop with two service accounts, of which one may read it.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{ApiServer, eventually};

/// The namespace of the demo.
pub const SHOP: &str = "shop";
/// May read and write ConfigMaps and read the rest of the shop.
pub const WEB: &str = "web";
/// May read nothing of the shop's.
pub const OTHER: &str = "other";
/// ConfigMaps made at the start: `menu-0` and so on.
pub const MENUS: usize = 12;

/// Collections of the shop.
pub const CONFIGMAPS: &str = "/api/v1/namespaces/shop/configmaps";
pub const PODS: &str = "/api/v1/namespaces/shop/pods";
pub const WIDGETS: &str = "/apis/example.dev/v1/namespaces/shop/widgets";
/// The custom resource as client-go writes it.
pub const WIDGETS_GVR: &str = "example.dev/v1/widgets";

/// Fills the cluster.
pub fn apply(api: &ApiServer<'_>) -> Result<()> {
    api.create("/api/v1/namespaces", &json!({"metadata": {"name": SHOP}}))?;
    for (namespace, account) in [
        (SHOP, WEB),
        (SHOP, OTHER),
        (SHOP, "default"),
        ("kube-system", "holdfast"),
    ] {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        // kube-system is made by the API server itself, a moment after it is ready.
        eventually("the namespace", Duration::from_secs(30), || {
            api.create(&path, &json!({"metadata": {"name": account}}))
        })?;
    }
    grants(api)?;
    api.create(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        &widget_definition(),
    )?;
    for number in 0..MENUS {
        configmap(api, &format!("menu-{number}"), "soup")?;
    }
    let widget = json!({"apiVersion": "example.dev/v1", "kind": "Widget", "metadata": {"name": "oven"}, "spec": {"size": 3}});
    eventually(
        "the custom resource to be served",
        Duration::from_secs(30),
        || api.create(WIDGETS, &widget),
    )?;
    Ok(())
}

/// Creates a ConfigMap in the shop.
pub fn configmap(api: &ApiServer<'_>, name: &str, dish: &str) -> Result<Value> {
    api.create(CONFIGMAPS, &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"dish": dish}}))
}

/// Changes a ConfigMap in the shop.
pub fn change(api: &ApiServer<'_>, name: &str, dish: &str) -> Result<Value> {
    api.admin(
        "PATCH",
        &format!("{CONFIGMAPS}/{name}"),
        Some(&json!({"data": {"dish": dish}})),
    )
}

/// Deletes a ConfigMap of the shop.
pub fn delete(api: &ApiServer<'_>, name: &str) -> Result<()> {
    api.admin("DELETE", &format!("{CONFIGMAPS}/{name}"), None)
        .map(drop)
}

/// The resourceVersion of an object or a list.
pub fn rv(value: &Value) -> Result<&str> {
    value["metadata"]["resourceVersion"]
        .as_str()
        .context("it has a resourceVersion")
}

fn grants(api: &ApiServer<'_>) -> Result<()> {
    let role = json!({
        "metadata": {"name": WEB},
        "rules": [
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"]},
            {"apiGroups": [""], "resources": ["pods", "secrets"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": ["example.dev"], "resources": ["widgets"], "verbs": ["get", "list", "watch"]},
        ],
    });
    let binding = json!({
        "metadata": {"name": WEB},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": WEB},
        "subjects": [{"kind": "ServiceAccount", "name": WEB, "namespace": SHOP}],
    });
    api.create(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/roles",
        &role,
    )?;
    api.create(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings",
        &binding,
    )?;
    Ok(())
}

fn widget_definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.dev"},
        "spec": {
            "group": "example.dev", "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}},
            }],
        },
    })
}
