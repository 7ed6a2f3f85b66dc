//! What the API server's own code, release 1.36.3, makes of selectors, most of them put together at random.
//!
//! `selectors.tsv` is written by `tests/vectors/selectors`, which says how; a file of any length may take its place for a run.
#![expect(clippy::unwrap_used, reason = "a test that unwraps a None has failed")]

use std::collections::BTreeMap;

use super::*;

/// `LABEL` or `FIELD`, selector, what the object has, `error` or whether it matches; `FIELDS`, group, resource, the fields it can be
/// selected by with the names they are compared under. Selectors and objects are in JSON.
const VECTORS: &str = include_str!("selectors.tsv");

type Values = BTreeMap<String, String>;

fn vectors(kind: &str) -> impl Iterator<Item = [&'static str; 3]> {
    VECTORS.lines().filter_map(move |line| {
        let columns: Vec<_> = line
            .strip_prefix(kind)?
            .strip_prefix('\t')?
            .split('\t')
            .collect();
        Some(columns.try_into().unwrap())
    })
}

fn compare(kind: &str, matches: impl Fn(&str, &Values) -> Result<bool, SelectorError>) {
    let mut told = BTreeMap::<_, u32>::new();
    for [selector, values, expected] in vectors(kind) {
        let selector: String = serde_json::from_str(selector).unwrap();
        let matched = matches(&selector, &serde_json::from_str(values).unwrap());
        let matched = matched.map_or("error".to_owned(), |matched| matched.to_string());
        assert_eq!(matched, expected, "{selector:?} on {values}");
        *told.entry(expected).or_default() += 1;
    }
    let each = told.values().filter(|times| **times > 100).count();
    assert_eq!(each, 3, "too few to tell anything: {told:?}");
}

fn value_in<'v>(values: &'v Values) -> impl Fn(&str) -> Option<&'v str> {
    |key| values.get(key).map(String::as_str)
}

#[test]
fn each_label_selector_matches_as_in_the_api_server() {
    compare("LABEL", |selector, labels| {
        Ok(LabelSelector::parse(selector)?.matches(value_in(labels)))
    });
}

#[test]
fn each_field_selector_matches_as_in_the_api_server() {
    compare("FIELD", |selector, fields| {
        Ok(FieldSelector::parse(selector)?.matches(value_in(fields)))
    });
}

#[test]
fn each_resource_is_selected_by_the_fields_that_the_api_server_permits() {
    let mut resources = 0;
    for [group, resource, permitted] in vectors("FIELDS") {
        let permitted: Values = serde_json::from_str(permitted).unwrap();
        assert_eq!(
            selectable_fields(group, resource),
            permitted.keys().collect::<Vec<_>>(),
            "{group}/{resource}"
        );
        for (field, name) in &permitted {
            let selector = FieldSelector::parse(&format!("{field}=x")).unwrap();
            let selector = selector.of_resource(group, resource).unwrap();
            // There, the events of this group are the ones of the core group in other words.
            if group != "events.k8s.io" {
                assert_eq!(selector.required(name), Some("x"), "{group}/{resource}");
            }
        }
        resources += 1;
    }
    assert!(resources > 50, "{resources}");
}

#[test]
fn a_selector_without_requirements_holds_for_every_object() {
    for selector in ["", " ", "\0a"] {
        let selector = LabelSelector::parse(selector).unwrap();
        assert!(selector.is_empty() && selector.matches(|_| None));
    }
    for selector in ["", ",,", "=", "!="] {
        let selector = FieldSelector::parse(selector).unwrap();
        assert!(selector.is_empty() && selector.matches(|_| None));
    }
}

#[test]
fn what_says_the_same_is_equal() {
    let labels = |text| LabelSelector::parse(text).unwrap();
    assert_eq!(labels("b in (2,1,2), a==1"), labels("a=1,b in (1,2)"));
    assert_ne!(labels("a=1"), labels("a!=1"));
    let fields = |text| FieldSelector::parse(text).unwrap();
    assert_eq!(fields(r"b==\,,a=1"), fields(r"a=1,b=\,"));
    assert_ne!(fields("a=1"), fields("a!=1"));
}

#[test]
fn a_selector_tells_why_it_is_none() {
    let labels = |text| LabelSelector::parse(text).unwrap_err();
    assert_eq!(labels("a b"), SelectorError::LabelSyntax);
    assert_eq!(labels("-a"), SelectorError::LabelKey);
    assert_eq!(labels("a=-b"), SelectorError::LabelValue);
    assert_eq!(labels("a>b"), SelectorError::LabelValue);
    let fields = |text| FieldSelector::parse(text).unwrap_err();
    assert_eq!(fields("a"), SelectorError::FieldSyntax);
    assert_eq!(fields("a=b=c"), SelectorError::FieldValue);
}

#[test]
fn a_field_that_the_resource_has_not_is_told() {
    for (group, resource, selector) in [
        ("", "nodes", "metadata.namespace!=a"),
        ("", "pods", "metadata.name=a,spec.hostname=a"),
        ("apps", "deployments", "status.replicas=1"),
        ("test.dev", "widgets", "spec.size=1"),
    ] {
        let selector = FieldSelector::parse(selector).unwrap();
        let told = selector.of_resource(group, resource);
        assert_eq!(told, Err(SelectorError::FieldUnsupported));
    }
}

#[test]
fn the_old_name_of_a_pods_node_is_the_new_one() {
    let selector = FieldSelector::parse("spec.host=n").unwrap();
    let selector = selector.of_resource("", "pods").unwrap();
    assert!(selector.matches(|field| (field == "spec.nodeName").then_some("n")));
}

#[test]
fn selectors_that_say_the_same_have_one_text() {
    let labels = |text| LabelSelector::canonical(text);
    assert_eq!(labels("b in (2,1,2), !c,a==1,a"), "!c,a,a=1,b in (1,2)");
    assert_eq!(labels("a in (x)"), "a=x");
    assert_eq!(labels("a in (,x),b="), "a in (,x),b=");
    assert_eq!(labels(" "), "");
    assert_eq!(labels("a b"), "a b");
    let fields = |text| FieldSelector::canonical(text);
    assert_eq!(
        fields("involvedObject.uid=5,,involvedObject.name==x,involvedObject.uid=5"),
        "involvedObject.name=x,involvedObject.uid=5"
    );
    assert_eq!(fields(r"a!=\\\,\="), r"a!=\\\,\=");
    assert_eq!(fields("a=b=c"), "a=b=c");
}

#[test]
fn a_selector_means_what_its_one_text_means() {
    let mut seen = 0;
    for [selector, _, _] in vectors("LABEL").chain(vectors("FIELD")) {
        let selector: String = serde_json::from_str(selector).unwrap();
        if let Ok(parsed) = LabelSelector::parse(&selector) {
            let again = LabelSelector::parse(&parsed.to_string()).unwrap();
            assert_eq!(again.to_string(), parsed.to_string(), "{selector:?}");
            let mut requirements = parsed.requirements().iter();
            assert!(requirements.all(|one| again.requirements().contains(one)));
            seen += 1;
        }
        if let Ok(parsed) = FieldSelector::parse(&selector) {
            let again = FieldSelector::parse(&parsed.to_string()).unwrap();
            assert_eq!(again.to_string(), parsed.to_string(), "{selector:?}");
            let mut requirements = parsed.requirements().iter();
            assert!(requirements.all(|one| again.requirements().contains(one)));
            seen += 1;
        }
    }
    assert!(seen > 1000, "too few to tell anything: {seen}");
}
