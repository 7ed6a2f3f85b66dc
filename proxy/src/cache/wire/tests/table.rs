//! Tables, in lists and streams.

use super::*;

#[test]
fn a_recorded_table_is_taken_apart_into_rows() {
    for text in [recorded!("table-list.json"), recorded!("table-pretty.json")] {
        let (head, items) = list(Json, &[&text]).unwrap();
        assert!(head.is_table());
        assert!(head.columns.starts_with(b"[") && head.columns.ends_with(b"]"));
        let columns: Vec<serde_json::Value> = serde_json::from_slice(&head.columns).unwrap();
        let names: Vec<_> = columns.iter().map(|c| &c["name"]).collect();
        assert_eq!(names, ["Name", "Data", "Age"]);
        let names: Vec<_> = items
            .iter()
            .map(|i| (&*i.meta.namespace, &*i.meta.name))
            .collect();
        assert_eq!(names, [("c", "one"), ("c", "two")]);
        assert_eq!(items[0].meta.labels, [("app".to_owned(), "x".to_owned())]);
        assert_eq!(&*items[0].meta.kind, PARTIAL_OBJECT);
        let row: serde_json::Value = serde_json::from_slice(&items[0].bytes).unwrap();
        assert_eq!(row["cells"].as_array().unwrap().len(), 3);
    }
}

#[test]
fn a_table_is_written_with_the_bytes_of_the_api_server() {
    for text in [
        recorded!("table-list.json"),
        recorded!("table-page.json"),
        recorded!("table-empty.json"),
        recorded!("table-none.json"),
        recorded!("table-object.json"),
        recorded!("table-cr-list.json"),
    ] {
        let (head, items) = list(Json, &[&text]).unwrap();
        assert_eq!(body(Json, &head, &items), text);
    }
}

#[test]
fn a_table_cut_anywhere_gives_the_same_rows_and_one_that_ends_early_none() {
    let text = recorded!("table-page.json");
    let whole = list(Json, &[&text]).unwrap();
    assert_eq!(whole.0.remaining, Some(1));
    for cut in 0..text.len() {
        let cut_up = list(Json, &[&text[..cut], &text[cut..]]);
        assert_eq!(cut_up.as_ref(), Ok(&whole), "cut at {cut}");
        if cut + 1 < text.len() {
            assert!(list(Json, &[&text[..cut]]).is_err(), "ends at {cut}");
        }
    }
}

#[test]
fn a_recorded_stream_of_tables_tells_the_objects_and_is_written_again() {
    for stream in [
        recorded!("table-watch.json"),
        recorded!("table-initial.json"),
        recorded!("table-cr-initial.json"),
    ] {
        let events = events(Json, &[&stream]).unwrap();
        for (n, event) in events.iter().enumerate() {
            assert_eq!(
                (&*event.meta.kind, &*event.meta.api_version),
                (TABLE_KIND, META_VERSION)
            );
            let one = open_table(&event.object).unwrap();
            assert_eq!(
                one.columns.is_empty(),
                n != 0,
                "columns come first and once"
            );
            assert_eq!(read_row_meta(&one.row).unwrap().name, event.meta.name);
            let table = table_of_one(event.meta.resource_version, &one.columns, &one.row);
            assert_eq!(watch_event(Json, event.kind, &table), event.frame);
        }
        let last = events.last().unwrap();
        assert_eq!((last.kind, &*last.meta.name), (EventType::Bookmark, ""));
        assert_ne!(last.meta.resource_version, 0);
    }
    let watch = events(Json, &[&recorded!("table-watch.json")]).unwrap();
    let seen: Vec<_> = watch.iter().map(seen).collect();
    assert_eq!(
        seen,
        [
            (EventType::Added, "three", 436),
            (EventType::Modified, "three", 437),
            (EventType::Deleted, "three", 438),
            (EventType::Bookmark, "", 438),
        ]
    );
}

#[test]
fn the_bookmark_of_a_custom_resources_table_is_written_with_the_bytes_of_the_api_server() {
    let stream = events(Json, &[&recorded!("table-cr-initial.json")]).unwrap();
    let columns = open_table(&stream[0].object).unwrap().columns;
    let columns: Vec<serde_json::Value> = serde_json::from_slice(&columns).unwrap();
    let recorded = stream.last().unwrap();
    assert!(recorded.meta.initial_events_end);
    let row = bookmark_row(columns.len(), recorded.meta.resource_version, true);
    let table = table_of_one(recorded.meta.resource_version, b"", &row);
    assert_eq!(
        watch_event(Json, EventType::Bookmark, &table),
        recorded.frame
    );
}

#[test]
fn an_error_in_a_stream_of_tables_is_a_status() {
    let events = events(Json, &[&recorded!("table-error.json")]).unwrap();
    assert_eq!(events[0].kind, EventType::Error);
    assert_eq!(
        (&*events[0].meta.kind, events[0].meta.status_code),
        ("Status", Some(504))
    );
}

#[test]
fn one_object_as_a_table_is_taken_apart_and_written_again() {
    for body in [
        recorded!("table-one.json"),
        recorded!("table-object.json"),
        recorded!("table-none.json"),
    ] {
        let one = open_table(&body).unwrap();
        let meta = read_meta(Json, &body).unwrap();
        assert_eq!(&*meta.kind, TABLE_KIND);
        let written = table_of_one(395, &one.columns, &one.row);
        assert_eq!([&written[..], b"\n"].concat(), body);
    }
}

#[test]
fn only_a_table_of_the_api_machinery_has_rows() {
    let other = r#"{"kind":"Table","apiVersion":"furniture.dev/v1","items":[{"rows":[]}]}"#;
    let (head, items) = list(Json, &[other.as_bytes()]).unwrap();
    assert!(!head.is_table());
    assert_eq!(items.len(), 1);
    let object =
        Bytes::from_static(br#"{"kind":"Table","apiVersion":"furniture.dev/v1","rows":7}"#);
    assert_eq!(&*read_meta(Json, &object).unwrap().kind, "Table");
    assert!(open_table(&object).is_err());
}

#[test]
fn what_is_not_one_table_is_refused() {
    let table = r#""kind":"Table","apiVersion":"meta.k8s.io/v1""#;
    for fields in [
        r#""items":[]"#,
        r#""rows":[],"rows":[]"#,
        r#""rows":{}"#,
        r#""rows":[1]"#,
        r#""rows":[{"object":7}]"#,
        r#""columnDefinitions":{},"rows":[]"#,
        "\"columnDefinitions\":[\"\n\"],\"rows\":[]",
        r#""columnDefinitions":[]"#,
    ] {
        let text = format!("{{{table},{fields}}}");
        assert!(list(Json, &[text.as_bytes()]).is_err(), "{text}");
    }
    for fields in [
        &b"\"columnDefinitions\":[\"\xff\"],\"rows\":[]"[..],
        b"\"rows\":[{\"cells\":[\"\xff\"]}]",
    ] {
        let text = [b"{", table.as_bytes(), b",", fields, b"}"].concat();
        assert!(list(Json, &[&text]).is_err(), "{text:?}");
    }
    for text in [
        format!(r#"{{"rows":[],{table}}}"#),
        format!(r#"{{"items":[],{table}}}"#),
        format!(r#"{{{table},"rows":[],"kind":"PodList"}}"#),
    ] {
        assert!(list(Json, &[text.as_bytes()]).is_err(), "{text}");
    }
    for rows in [
        "",
        r#","rows":null"#,
        r#","rows":[]"#,
        r#","rows":7"#,
        r#","rows":[{},{}]"#,
    ] {
        let text = Bytes::from(format!("{{{table}{rows}}}"));
        assert!(open_table(&text).is_err(), "{text:?}");
        let meta = read_meta(Json, &text).unwrap();
        assert_eq!((&*meta.kind, &*meta.name), (TABLE_KIND, ""), "{text:?}");
    }
    for row in ["7", r#"{"object":7}"#, r#"{"object":{"metadata":7}}"#] {
        let text = Bytes::from(format!(r#"{{{table},"rows":[{row}]}}"#));
        assert!(read_meta(Json, &text).is_err(), "{text:?}");
    }
}

#[test]
fn endless_columns_are_given_up() {
    let start = br#"{"kind":"Table","apiVersion":"meta.k8s.io/v1","columnDefinitions":[""#;
    let mut splitter = ListSplitter::new(Json);
    splitter.feed(start, &mut |_| {}).unwrap();
    let end = splitter.feed(&[b'x'; MAX_HEAD_BYTES], &mut |_| {});
    assert_eq!(
        end,
        Err(WireError::TooLarge("field of a list", MAX_HEAD_BYTES))
    );
}
