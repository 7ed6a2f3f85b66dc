//! The rules of RequestInfo, one table each. GET where no method is named.

use http::{Method, Uri};

use super::*;

fn parsed(method: Method, uri: &str) -> RequestInfo {
    let uri: Uri = uri.parse().expect("a URI");
    RequestInfo::parse(&method, &uri).expect("a request Kubernetes understands")
}

fn get(uri: &str) -> RequestInfo {
    parsed(Method::GET, uri)
}

fn error(uri: &str) -> ParseError {
    let uri: Uri = uri.parse().expect("a URI");
    RequestInfo::parse(&Method::GET, &uri).expect_err("a request Kubernetes does not understand")
}

/// verb, group/version, namespace, resource, name, subresource.
fn told(info: &RequestInfo) -> [&str; 6] {
    [
        info.verb.as_str(),
        &info.api_group,
        &info.namespace,
        &info.resource,
        &info.name,
        &info.subresource,
    ]
}

#[test]
fn a_path_without_a_resource_is_a_non_resource_request() {
    for path in [
        "/",
        "/api",
        "/api/",
        "/api/v1",
        "/api/v1/",
        "/apis",
        "/apis/apps",
        "/apis/apps/v1",
        "/apis/apps/v1/",
        "/version",
        "/healthz",
        "/openapi/v3/apis/apps/v1",
        "/other/v1/pods",
        "*",
    ] {
        let info = get(path);
        assert!(!info.is_resource_request, "{path}");
        assert_eq!(info.verb, Verb::Get, "{path}");
        assert_eq!((info.scope(), info.object()), (None, None), "{path}");
        assert_eq!(parsed(Method::POST, path).verb, Verb::Other, "{path}");
    }
}

#[test]
fn the_path_tells_group_namespace_resource_name_and_subresource() {
    let table = [
        ("/api/v1/pods", ["list", "", "", "pods", "", ""]),
        ("/api/v1/pods/", ["list", "", "", "pods", "", ""]),
        (
            "/api/v1/namespaces/a/pods",
            ["list", "", "a", "pods", "", ""],
        ),
        (
            "/api/v1/namespaces/a/pods/b",
            ["get", "", "a", "pods", "b", ""],
        ),
        (
            "/api/v1/namespaces/a/pods/b/log",
            ["get", "", "a", "pods", "b", "log"],
        ),
        (
            "/api/v1/namespaces/a/pods/b/proxy/x/y",
            ["get", "", "a", "pods", "b", "proxy"],
        ),
        ("/api/v1/nodes/n", ["get", "", "", "nodes", "n", ""]),
        (
            "/apis/apps/v1/deployments",
            ["list", "apps", "", "deployments", "", ""],
        ),
        (
            "/apis/apps/v1/namespaces/a/deployments/d/scale",
            ["get", "apps", "a", "deployments", "d", "scale"],
        ),
        // The Namespace object is in its own namespace.
        ("/api/v1/namespaces", ["list", "", "", "namespaces", "", ""]),
        (
            "/api/v1/namespaces/a",
            ["get", "", "a", "namespaces", "a", ""],
        ),
        (
            "/api/v1/namespaces/a/status",
            ["get", "", "a", "namespaces", "a", "status"],
        ),
        (
            "/api/v1/namespaces/a/finalize",
            ["get", "", "a", "namespaces", "a", "finalize"],
        ),
        // Empty segments are kept.
        (
            "/api/v1//namespaces/a",
            ["get", "", "", "", "namespaces", "a"],
        ),
        // Percent-encoding is undone before the path is split.
        (
            "/api/v1/namespaces/a/pods/b%2Flog",
            ["get", "", "a", "pods", "b", "log"],
        ),
        (
            "/api/v1/namespaces/a/pods/%62+c",
            ["get", "", "a", "pods", "b+c", ""],
        ),
    ];
    for (path, expected) in table {
        let info = get(path);
        assert!(info.is_resource_request, "{path}");
        assert_eq!(told(&info), expected, "{path}");
    }
}

#[test]
fn the_method_tells_the_verb() {
    let (one, all) = ("/api/v1/nodes/n", "/api/v1/nodes");
    let table = [
        (Method::POST, all, Verb::Create),
        (Method::GET, one, Verb::Get),
        (Method::GET, all, Verb::List),
        (Method::HEAD, one, Verb::Get),
        (Method::HEAD, all, Verb::List),
        (Method::PUT, one, Verb::Update),
        (Method::PATCH, one, Verb::Patch),
        (Method::DELETE, one, Verb::Delete),
        (Method::DELETE, all, Verb::DeleteCollection),
        (Method::OPTIONS, one, Verb::Other),
        (
            Method::from_bytes(b"get").expect("a token"),
            one,
            Verb::Other,
        ),
    ];
    for (method, path, verb) in table {
        let info = parsed(method.clone(), path);
        assert_eq!(info.verb, verb, "{method} {path}");
        assert_eq!(info.is_read(), method == Method::GET, "{method} {path}");
    }
}

#[test]
fn the_legacy_prefixes_are_verbs_whatever_the_method() {
    let table = [
        ("/api/v1/watch/pods", ["watch", "", "", "pods", "", ""]),
        (
            "/api/v1/watch/namespaces/a/pods",
            ["watch", "", "a", "pods", "", ""],
        ),
        (
            "/api/v1/watch/namespaces/a/pods/b",
            ["watch", "", "a", "pods", "b", ""],
        ),
        (
            "/apis/apps/v1/watch/deployments",
            ["watch", "apps", "", "deployments", "", ""],
        ),
        (
            "/api/v1/proxy/namespaces/a/pods/b/c/d",
            ["proxy", "", "a", "pods", "b", ""],
        ),
        ("/api/v1/proxy/nodes/n", ["proxy", "", "", "nodes", "n", ""]),
    ];
    for (path, expected) in table {
        for method in [Method::GET, Method::POST] {
            let info = parsed(method.clone(), path);
            assert_eq!(told(&info), expected, "{path}");
            let watch = expected[0] == "watch";
            assert_eq!(info.legacy_watch, watch, "{path}");
            assert_eq!(info.is_read(), watch && method == Method::GET, "{path}");
        }
    }
    assert_eq!(error("/api/v1/watch"), ParseError::DanglingPrefix("watch"));
    assert_eq!(
        error("/apis/apps/v1/proxy/"),
        ParseError::DanglingPrefix("proxy")
    );
}

#[test]
fn a_path_that_does_not_decode_is_an_error() {
    for path in ["/api/v1/%", "/api/v1/%zz", "/api/v1/%4", "/%ff"] {
        assert_eq!(error(path), ParseError::Encoding, "{path}");
    }
}

#[test]
fn every_watch_value_but_0_and_false_watches() {
    let table = [
        ("watch", Verb::Watch),
        ("watch=", Verb::Watch),
        ("watch=1", Verb::Watch),
        ("watch=yes", Verb::Watch),
        ("watch=no", Verb::Watch),
        ("watch=0", Verb::List),
        ("watch=false", Verb::List),
        ("watch=FALSE", Verb::List),
        ("watch=0&watch=1", Verb::List),
        ("watch=00", Verb::Watch),
        ("w%61tch=t", Verb::Watch),
        ("Watch=1", Verb::List),
        // Go drops what it can't decode, and what has a semicolon.
        ("watch=%zz", Verb::List),
        ("watch=1;a", Verb::List),
        // Only `watch` is read from a query that does not decode.
        ("watch=1&limit=many", Verb::Watch),
        ("watch=0&limit=many", Verb::List),
    ];
    for (query, verb) in table {
        assert_eq!(get(&format!("/api/v1/pods?{query}")).verb, verb, "{query}");
    }
    let named = get("/api/v1/namespaces/a/pods/b?watch=1");
    assert_eq!(named.verb, Verb::Get, "a watch has no name in its path");
}

#[test]
fn list_options_are_decoded_as_kubernetes_does() {
    let info = get(
        "/api/v1/pods?labelSelector=a%3Db%2Cc+in+(d)&fieldSelector=spec.nodeName%3Dn&watch=1&allowWatchBookmarks=true\
         &resourceVersion=12&resourceVersionMatch=NotOlderThan&timeoutSeconds=300&limit=500&continue=t&sendInitialEvents=true&timeout=5m",
    );
    let expected = ListOptions {
        label_selector: "a=b,c in (d)".to_owned(),
        field_selector: "spec.nodeName=n".to_owned(),
        watch: true,
        allow_watch_bookmarks: true,
        resource_version: "12".to_owned(),
        resource_version_match: "NotOlderThan".to_owned(),
        timeout_seconds: Some(300),
        limit: Some(500),
        continue_token: "t".to_owned(),
        send_initial_events: Some(true),
        unknown: None,
    };
    assert_eq!(info.options, expected);
    assert_eq!(info.unmodelled_query, None);
    assert_eq!(get("/api/v1/pods").options, ListOptions::default());
    let zero = get("/api/v1/pods?limit=0&timeoutSeconds=0&sendInitialEvents=false").options;
    let expected = (None, None, Some(false));
    assert_eq!(
        (zero.limit, zero.timeout_seconds, zero.send_initial_events),
        expected
    );
}

#[test]
fn an_option_that_is_unknown_or_does_not_decode_is_named() {
    let table = [
        ("shardSelector=x", "shardSelector"),
        ("labelSelector=a&foo=bar", "foo"),
        ("limit=many", "limit"),
        ("limit=", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("limit=-1", "limit"),
        ("timeoutSeconds=1.5", "timeoutSeconds"),
        ("fieldSelector=metadata.name", "fieldSelector"),
        ("fieldSelector=a%3Db%5Cc", "fieldSelector"),
        ("a=%zz", "malformed"),
        ("labelSelector=%ff", "malformed"),
    ];
    for (query, unknown) in table {
        for path in ["/api/v1/pods", "/api/v1/watch/pods"] {
            let info = get(&format!("{path}?{query}"));
            assert_eq!(info.options.unknown.as_deref(), Some(unknown), "{query}");
        }
    }
    let selectors = get("/api/v1/pods?limit=many&labelSelector=a&fieldSelector=metadata.name%3Db");
    assert_eq!(
        selectors.options.label_selector, "a",
        "the scope never gets wider"
    );
    assert_eq!(selectors.name, "", "no name is set");
    let long = get(&format!("/api/v1/pods?{}", "x".repeat(5000)));
    assert_eq!(long.options.unknown.map(|name| name.len()), Some(64));
}

#[test]
fn a_field_selector_that_requires_a_name_sets_it() {
    let table = [
        ("metadata.name=b", "b"),
        ("metadata.name==b", "b"),
        ("metadata.namespace=a,metadata.name=b", "b"),
        ("metadata.name=c,metadata.name=b", "b"),
        ("metadata.name=b,", "b"),
        (r"metadata.name=b\,c", "b,c"),
        ("metadata.name!=b", ""),
        ("metadata.name=.", ""),
        ("metadata.name=..", ""),
        ("metadata.name=a/b", ""),
        ("metadata.name=a%b", ""),
        ("metadata.name=", ""),
        ("metadata.name", ""),
        ("metadata.name=a=b", ""),
        (r"metadata.name=b\", ""),
        ("metadata.name=b,nonsense", ""),
        ("spec.nodeName=b", ""),
    ];
    for (selector, name) in table {
        let encoded: String = form_urlencoded::byte_serialize(selector.as_bytes()).collect();
        for verb in ["", "&watch=1"] {
            let info = get(&format!("/api/v1/pods?fieldSelector={encoded}{verb}"));
            assert_eq!(info.name, name, "{selector}");
            assert_eq!(info.options.field_selector, selector);
        }
    }
    let legacy = get("/api/v1/watch/pods?fieldSelector=metadata.name%3Db");
    assert_eq!(
        legacy.name, "",
        "a legacy path takes no name from its query"
    );
}

#[test]
fn a_delete_of_many_carries_its_selectors_only() {
    let uri = "/api/v1/namespaces/a/pods?labelSelector=b&fieldSelector=metadata.name%3Dc&limit=1";
    let info = parsed(Method::DELETE, uri);
    assert_eq!(
        (info.verb, info.name.as_str()),
        (Verb::DeleteCollection, "")
    );
    assert_eq!(info.options.label_selector, "b");
    assert_eq!(info.options.field_selector, "metadata.name=c");
    assert_eq!(info.options.limit, None);
}

#[test]
fn a_query_that_changes_the_answer_is_named() {
    let table = [
        ("pretty=true", Some("pretty")),
        ("pretty=1", Some("pretty")),
        ("pretty=false", None),
        ("pretty=", None),
        ("pretty=perhaps", None),
        ("includeObject=Object", None),
        ("includeObject=None", Some("includeObject")),
        ("includeObject=Metadata", None),
        ("export=true", Some("export")),
        ("export=false", None),
        ("timeout=32s", None),
        ("resourceVersion=0", None),
        ("limit=500&watch=1", None),
    ];
    for (query, expected) in table {
        for path in [
            "/api/v1/pods",
            "/api/v1/namespaces/a/pods/b",
            "/api/v1/watch/pods",
        ] {
            let info = get(&format!("{path}?{query}"));
            assert_eq!(info.unmodelled_query.as_deref(), expected, "{path}?{query}");
        }
    }
    let unknown = get("/api/v1/nodes/n?foo=bar").unmodelled_query;
    assert_eq!(unknown.as_deref(), Some("foo"), "a GET has no list options");
    let rv = get("/api/v1/nodes/n?resourceVersion=0").options;
    assert_eq!(rv.resource_version, "0");
    let openapi = get("/openapi/v3/api/v1?hash=AB&pretty=true");
    assert_eq!(
        openapi.unmodelled_query, None,
        "the query is part of the key"
    );
    assert_eq!(openapi.query, "hash=AB&pretty=true");
}

#[test]
fn a_scope_is_what_a_list_or_watch_covers() {
    let pods = |namespace: Option<&str>, field_selector: &str| {
        let resource = get("/api/v1/pods").group_version_resource();
        Some(Scope {
            resource,
            namespace: namespace.map(str::to_owned),
            label_selector: String::new(),
            field_selector: field_selector.to_owned(),
        })
    };
    let table = [
        ("/api/v1/pods", pods(None, "")),
        ("/api/v1/pods/?watch=1", pods(None, "")),
        ("/api/v1/namespaces/a/pods", pods(Some("a"), "")),
        (
            "/api/v1/pods?fieldSelector=metadata.name%3Db",
            pods(None, "metadata.name=b"),
        ),
        ("/api/v1/watch/namespaces/a/pods", pods(Some("a"), "")),
        (
            "/api/v1/watch/namespaces/a/pods/b",
            pods(Some("a"), "metadata.name=b"),
        ),
        (
            "/api/v1/watch/namespaces/a/pods/b,",
            pods(Some("a"), "metadata.name=b\\,"),
        ),
        (
            "/api/v1/watch/namespaces/a/pods/b,metadata.name=b",
            pods(Some("a"), "metadata.name=b\\,metadata.name\\=b"),
        ),
        (
            "/api/v1/watch/namespaces/a/pods/b?fieldSelector=metadata.name%3D%3Db",
            pods(Some("a"), "metadata.name=b"),
        ),
        (
            "/api/v1/watch/namespaces/a/pods/b?fieldSelector=metadata.name%3Dc",
            None,
        ),
        (
            "/api/v1/watch/namespaces/a/pods/b?fieldSelector=spec.nodeName%3Dc",
            None,
        ),
        ("/api/v1/watch/namespaces/a/pods/b/log", None),
        ("/api/v1/pods/b", None),
        ("/api/v1//pods", None),
        ("/api/v1/namespaces//pods", None),
    ];
    for (uri, expected) in table {
        assert_eq!(get(uri).scope(), expected, "{uri}");
    }
    assert_eq!(parsed(Method::HEAD, "/api/v1/pods").scope(), None);
    assert_eq!(parsed(Method::POST, "/api/v1/watch/pods").scope(), None);
}

#[test]
fn a_namespace_lives_in_no_namespace() {
    let scope = get("/api/v1/namespaces").scope().expect("a list");
    assert_eq!(scope.namespace, None);
    let scope = get("/api/v1/watch/namespaces/a").scope().expect("a watch");
    assert_eq!(scope.namespace, None);
    assert_eq!(scope.field_selector, "metadata.name=a");
    for path in [
        "/api/v1/namespaces/a",
        "/api/v1/namespaces/a/status",
        "/api/v1/namespaces/namespaces",
    ] {
        let object = get(path).object().expect("an object");
        assert_eq!(object.namespace, "", "{path}");
    }
}

#[test]
fn an_object_is_what_a_get_reads() {
    let table = [
        ("/api/v1/namespaces/a/pods/b", Some(("a", "b"))),
        ("/api/v1/namespaces/a/pods/b/status", Some(("a", "b"))),
        ("/api/v1/nodes/n", Some(("", "n"))),
        ("/api/v1/namespaces/a/pods/b/log", None),
        ("/apis/apps/v1/namespaces/a/deployments/d/scale", None),
        ("/api/v1/pods?fieldSelector=metadata.name%3Db", None),
        ("/version", None),
        // Paths that are 404 upstream must not prove an object gone.
        ("/api/v1/namespaces/a/pods/b/status/c", None),
        ("/api/v1/namespaces/a/namespaces/a", None),
        ("/api/v1/namespaces/a//pods/b", None),
        ("/api/v1/namespaces//pods/b", None),
    ];
    for (path, expected) in table {
        let object = get(path).object();
        let object = object
            .as_ref()
            .map(|key| (key.namespace.as_str(), key.name.as_str()));
        assert_eq!(object, expected, "{path}");
    }
    assert_eq!(parsed(Method::HEAD, "/api/v1/nodes/n").object(), None);
    assert_eq!(parsed(Method::DELETE, "/api/v1/nodes/n").object(), None);
}

#[test]
fn a_write_changes_an_object_and_may_be_answered_with_it() {
    let (shown, hidden) = (Some(true), Some(false));
    for (request, object, expected) in [
        ("POST /api/v1/namespaces/a/pods", "a/", shown),
        ("POST /apis/example.com/v1/things", "/", shown),
        ("PUT /api/v1/namespaces/a/pods/p", "a/p", shown),
        ("PATCH /api/v1/namespaces/a/pods/p/status", "a/p", shown),
        (
            "PATCH /api/v1/nodes/n?fieldManager=x&timeout=10s",
            "/n",
            shown,
        ),
        ("PUT /api/v1/namespaces/a", "/a", shown),
        ("PUT /api/v1/namespaces/a/pods/p?pretty=true", "a/p", hidden),
        ("DELETE /api/v1/namespaces/a/pods/p", "a/p", hidden),
        ("PUT /api/v1/namespaces/a/finalize", "/a", hidden),
        ("POST /api/v1/namespaces/a/pods/p/eviction", "a/p", hidden),
        (
            "PATCH /apis/apps/v1/namespaces/a/deployments/d/scale",
            "a/d",
            hidden,
        ),
        ("PUT /api/v1/namespaces/a/pods/p?dryRun=All", "", None),
        ("POST /api/v1/namespaces/a/pods?dryRun=All", "", None),
        ("POST /api/v1/namespaces/a/pods/p", "", None),
        ("POST /api/v1/namespaces/a/pods/p/exec", "", None),
        (
            "POST /api/v1/namespaces/a/serviceaccounts/s/token",
            "",
            None,
        ),
        (
            "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            "",
            None,
        ),
        ("DELETE /api/v1/namespaces/a/pods", "", None),
        ("PUT /api/v1/namespaces/a/pods", "", None),
        ("PUT /api/v1//namespaces/a/pods/p", "", None),
        ("GET /api/v1/namespaces/a/pods/p", "", None),
    ] {
        let (method, uri) = request.split_once(' ').expect("a method and a URI");
        let written = parsed(method.parse().expect("a method"), uri).written();
        assert_eq!(written.as_ref().map(|w| w.shown), expected, "{request}");
        let of = |w: Written| format!("{}/{}", w.object.namespace, w.object.name);
        assert_eq!(written.map(of).unwrap_or_default(), object, "{request}");
    }
}

#[test]
fn no_request_line_makes_the_parser_panic() {
    let pieces = [
        "/",
        "api",
        "apis",
        "v1",
        "watch",
        "proxy",
        "namespaces",
        "status",
        "pods",
        "%2F",
        "%",
        "%e2%82",
        "a",
        "",
        "?",
        "&",
        "=",
        ";",
        "watch=",
        "fieldSelector=",
        "metadata.name%3D",
        "%5C",
        "%2C",
        "limit=",
        "-",
        "9",
    ];
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let length = random.usize(..12);
        let line: String = (0..length)
            .map(|_| pieces[random.usize(..pieces.len())])
            .collect();
        let Ok(uri) = format!("/{line}").parse::<Uri>() else {
            continue;
        };
        for method in [Method::GET, Method::DELETE, Method::POST] {
            if let Ok(info) = RequestInfo::parse(&method, &uri) {
                let known = info.scope().is_some() || info.object().is_some();
                assert!(!known || info.is_read(), "{uri}");
            }
        }
    }
}
