//! Rows made here, against those of the API server for the same objects.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::*;

/// When `table-cr-list.json` and `table-cr-plain.json` were recorded: 2026-11-21T07:42:50Z.
fn recorded_at() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_246_970)
}

fn value(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap()
}

/// The recorded Table of these columns beside one made from the objects.
fn assert_rows(columns: &Columns, recorded: &Bytes) {
    let (head, rows) = list(Json, &[recorded]).unwrap();
    assert_eq!(columns.definitions(), &head.columns);
    assert_eq!(
        columns.count(),
        value(&head.columns).as_array().unwrap().len()
    );
    let (_, objects) = list(Json, &[&recorded!("gadgets.json")]).unwrap();
    assert_eq!(rows.len(), objects.len());
    for (theirs, object) in rows.iter().zip(&objects) {
        let ours = row(columns, &object.bytes, recorded_at()).unwrap();
        let (ours, mut theirs) = (value(&ours), value(&theirs.bytes));
        for not_covered in ["Deep", "Wild"] {
            let names = value(columns.definitions());
            let found = names
                .as_array()
                .unwrap()
                .iter()
                .position(|c| c["name"] == not_covered);
            if let Some(at) = found {
                theirs["cells"][at] = Value::Null;
            }
        }
        assert_eq!(ours["cells"].to_string(), theirs["cells"].to_string());
        assert_eq!(
            ours, theirs,
            "metadata of a custom resource is told in another order"
        );
    }
}

#[test]
fn rows_of_declared_columns_have_the_cells_of_the_api_server() {
    let columns = crd_columns(&recorded!("gadget-crd.json"), "v1").unwrap();
    assert_rows(&columns, &recorded!("table-cr-list.json"));
}

#[test]
fn a_custom_resource_that_declares_no_columns_has_a_name_and_an_age() {
    let columns = crd_columns(&recorded!("gadget-crd.json"), "v2").unwrap();
    assert_eq!(columns, default_columns());
    assert_rows(&columns, &recorded!("table-cr-plain.json"));
}

#[test]
fn columns_of_what_is_no_definition_or_not_of_this_version_are_refused() {
    let definition = recorded!("gadget-crd.json");
    assert!(crd_columns(&definition, "v3").is_err());
    for text in [
        "",
        "{}",
        r#"{"spec":{"versions":[{"name":"v1","additionalPrinterColumns":[{}]}]}}"#,
    ] {
        assert!(crd_columns(text.as_bytes(), "v1").is_err(), "{text}");
    }
    let long = json!({"name": "x".repeat(MAX_HEAD_BYTES), "type": "string", "jsonPath": ".x"});
    let long = json!({"spec": {"versions": [{"name": "v1", "additionalPrinterColumns": [long]}]}});
    let too_large = WireError::TooLarge("columns of a Table", MAX_HEAD_BYTES);
    assert_eq!(
        crd_columns(long.to_string().as_bytes(), "v1"),
        Err(too_large)
    );
}

#[test]
fn default_columns_need_the_metadata_alone() {
    for (encoding, object) in [
        (Json, recorded!("web.json")),
        (Protobuf, recorded!("web.pb")),
    ] {
        let metadata = metadata_of(encoding, &object, Json).unwrap();
        let row = row(&default_columns(), &metadata, recorded_at()).unwrap();
        assert_eq!(
            row,
            [br#"{"cells":["web","23m"],"object":"#, &metadata[..], b"}"].concat()
        );
    }
}

#[test]
fn a_row_takes_the_object_that_was_asked_for() {
    let one = open_table(&recorded!("table-one.json")).unwrap().row;
    let with_object = open_table(&recorded!("table-object.json")).unwrap().row;
    let without = open_table(&recorded!("table-none.json")).unwrap().row;
    let object = &value(&with_object)["object"];
    assert_eq!(object["kind"], "ConfigMap");
    let same_age = |row: &[u8]| {
        let mut row = value(row);
        row["cells"][2] = "1m".into();
        row
    };
    let made = row_with_object(&one, Some(object.to_string().as_bytes())).unwrap();
    assert_eq!(same_age(&made), same_age(&with_object));
    let made = row_with_object(&one, None).unwrap();
    assert_eq!(same_age(&made), same_age(&without));
    assert!(made.ends_with(br#","object":null}"#));
    let conditions = br#"{"cells":[1],"conditions":[{"type":"Completed"}],"object":{}}"#;
    let made = row_with_object(conditions, None).unwrap();
    assert_eq!(
        made,
        r#"{"cells":[1],"conditions":[{"type":"Completed"}],"object":null}"#
    );
    assert!(row_with_object(b"{}", None).is_err());
    assert!(row_with_object(&one, Some(b"{")).is_err());
}

#[test]
fn a_kept_row_shows_its_age_of_now_and_is_otherwise_as_it_came() {
    let later = recorded_at() + Duration::from_secs(3 * 3600);
    for (table, age_at, age) in [
        (recorded!("table-list.json"), 2, "3h20m"),
        (recorded!("table-cr-list.json"), 22, "3h27m"),
        (recorded!("table-cr-plain.json"), 1, "3h27m"),
    ] {
        let (head, rows) = list(Json, &[&table]).unwrap();
        let ages = AgeColumns::of(&head.columns).unwrap();
        // The second one of each is the older one.
        let stale = &rows[1].bytes;
        let fresh = ages.refresh(stale, later).unwrap();
        let mut expected = value(stale);
        assert_ne!(expected["cells"][age_at], age);
        expected["cells"][age_at] = age.into();
        assert_eq!(value(&fresh), expected);
        let cell = format!("\"{age}\"");
        let text = String::from_utf8(fresh.to_vec()).unwrap();
        let was = value(stale)["cells"][age_at].to_string();
        assert_eq!(text.replacen(&cell, &was, 1), *stale, "not a byte more");
    }
}

#[test]
fn what_is_no_age_is_not_touched() {
    let columns = |name: &str, kind: &str, description: &str| {
        json!([{"name": name, "type": kind, "description": description}]).to_string()
    };
    let creation = super::super::columns::CREATION_DOC;
    let path =
        "Custom resource definition column (in JSONPath format): .metadata.creationTimestamp";
    let row = Bytes::from_static(
        br#"{"cells":["old"],"object":{"metadata":{"creationTimestamp":"2026-11-21T07:42:50Z"}}}"#,
    );
    for (name, kind, description, is_age) in [
        ("Age", "string", creation, true),
        ("Age", "date", creation, true),
        ("Age", "date", path, true),
        ("Since", "date", path, true),
        ("Created At", "date", creation, false),
        ("Age", "string", path, false),
        ("Age", "string", "Of the wine", false),
        ("Last Seen", "string", "The time at which", false),
    ] {
        let ages = AgeColumns::of(columns(name, kind, description).as_bytes()).unwrap();
        let fresh = ages.refresh(&row, recorded_at()).unwrap();
        assert_eq!(fresh != row, is_age, "{name} {kind} {description}");
    }
    let ages = AgeColumns::of(columns("Age", "string", creation).as_bytes()).unwrap();
    let bookmark = bookmark_row(1, 7, true);
    assert_eq!(ages.refresh(&bookmark, recorded_at()), Ok(bookmark));
    let without = Bytes::from_static(br#"{"cells":["old"],"object":null}"#);
    assert_eq!(ages.refresh(&without, recorded_at()), Ok(without));
    assert!(
        ages.refresh(&Bytes::from_static(b"[]"), recorded_at())
            .is_err()
    );
    assert!(AgeColumns::of(b"{}").is_err());
}
