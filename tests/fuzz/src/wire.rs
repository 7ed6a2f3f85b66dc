//! Lists, watch streams and what is made of their objects: however the bytes are cut, the same comes out; what is written reads back as it was.

use std::time::UNIX_EPOCH;

use bytes::Bytes;
use holdfast::cache::wire::{
    AgeColumns, ListHead, ListItem, ListSplitter, ObjectMeta, TABLE_KIND, WatchEvent,
    WatchSplitter, WireError, check_json, crd_columns, envelope, has_json, json_item_of_protobuf,
    json_of, json_of_protobuf, list_body, metadata_of, open_envelope, open_table, read_meta,
    read_row_meta, row_with_object, table_of_one, watch_event, with_type_meta, without_type_meta,
    yaml_of,
};
use holdfast::request_info::accept::Encoding;

pub fn watch_json(data: &[u8]) {
    watch(Encoding::Json, data);
}

pub fn watch_protobuf(data: &[u8]) {
    watch(Encoding::Protobuf, data);
}

pub fn list_json(data: &[u8]) {
    let Some((head, items)) = list(Encoding::Json, data) else {
        return;
    };
    for item in items {
        if head.is_table() {
            listed_row(&head, &item);
            continue;
        }
        // It would not be kept.
        if check_json(&item.bytes, item.meta.kind.is_empty()).is_err() {
            continue;
        }
        let whole = with_type_meta(&item.bytes, "v1", "Kind");
        let meta = read_meta(Encoding::Json, &whole).expect("TypeMeta does not spoil an object");
        assert_eq!(meta.name, item.meta.name);
        if whole != item.bytes {
            assert_eq!(without_type_meta(&whole), item.bytes);
        }
    }
}

pub fn list_protobuf(data: &[u8]) {
    let Some((_, items)) = list(Encoding::Protobuf, data) else {
        return;
    };
    for item in items {
        let whole = envelope("v1", "Kind", &item.bytes);
        let opened = open_envelope(&whole).expect("an envelope of our own");
        assert_eq!(opened.raw, item.bytes);
        let meta = read_meta(Encoding::Protobuf, &whole).expect("it was read without envelope");
        assert_eq!(meta.uid, item.meta.uid);
    }
}

/// An object in either encoding: what becomes metadata is read as such in both, and crosses between them without a further change.
pub fn metadata(data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    for from in [Encoding::Json, Encoding::Protobuf] {
        let crossed = match from {
            Encoding::Json => Encoding::Protobuf,
            Encoding::Protobuf => Encoding::Json,
        };
        if let Ok(same) = metadata_of(from, &data, from) {
            assert_eq!(metadata_of(from, &same, from), Ok(same));
        }
        let Ok(mut object) = metadata_of(from, &data, crossed) else {
            continue;
        };
        // An explicit null is lost on the first way back.
        for settled in [false, true] {
            let back = metadata_of(crossed, &object, from).expect("it came from there");
            let again = metadata_of(from, &back, crossed).expect("it was there before");
            assert!(!settled || again == object);
            let metas = [(from, &back), (crossed, &again)].map(|(e, o)| read_meta(e, o));
            assert_eq!(metas[0], metas[1]);
            object = again;
        }
    }
}

/// An enveloped object: what has a JSON says the same in both encodings.
pub fn transcode(data: &[u8]) {
    let object = Bytes::copy_from_slice(data);
    let Ok(opened) = open_envelope(&object) else {
        return;
    };
    let (api_version, kind, raw) = (&opened.api_version, &opened.kind, &opened.raw);
    let told = json_of_protobuf(api_version, kind, raw);
    assert_eq!(has_json(api_version, kind, raw), told.is_ok());
    let Ok(told) = told else {
        return;
    };
    let item = json_item_of_protobuf(api_version, kind, raw).expect("it has a JSON");
    assert_eq!(without_type_meta(&told), item);
    assert_eq!(with_type_meta(&item, api_version, kind), told);
    assert_eq!(
        read_meta(Encoding::Json, &told),
        read_meta(Encoding::Protobuf, &object)
    );
    assert_eq!(
        metadata_of(Encoding::Json, &told, Encoding::Json),
        metadata_of(Encoding::Protobuf, &object, Encoding::Json)
    );
}

/// A CustomResourceDefinition, or an object: the row of one by the other is a row, and its age is as fresh as can be.
pub fn row(data: &[u8]) {
    const DEFINITION: &[u8] = include_bytes!("../corpus/row/gadget-crd.json");
    const OBJECT: &[u8] = include_bytes!("../corpus/row/floats.json");
    // Most inputs by far, and none of them gets further.
    if serde_json::from_slice::<serde_json::Value>(data).is_err() {
        return;
    }
    for (definition, object) in [(data, OBJECT), (DEFINITION, data)] {
        let object = Bytes::copy_from_slice(object);
        let Ok(columns) = crd_columns(definition, "v1") else {
            continue;
        };
        let ages = AgeColumns::of(columns.definitions()).expect("columns of our own");
        let Ok(row) = holdfast::cache::wire::row(&columns, &object, UNIX_EPOCH) else {
            continue;
        };
        let alone = row_with_object(&row, None).expect("a row of our own");
        assert_eq!(read_row_meta(&alone), Ok(ObjectMeta::default()));
        // An object with metadata of other types has a row all the same.
        if read_row_meta(&row).is_ok() {
            let fresh = ages.refresh(&row, UNIX_EPOCH).expect("a row of our own");
            assert_eq!(fresh, row);
        }
    }
}

/// An object in JSON or in YAML: the other one is the same object.
pub fn yaml(data: &[u8]) {
    let value = |json: &[u8]| serde_json::from_slice::<serde_json::Value>(json).ok();
    if let Ok(yaml) = yaml_of(data)
        && let Some(object @ serde_json::Value::Object(_)) = value(data)
    {
        let json = json_of(&yaml).expect("YAML of our own");
        assert_eq!(value(&json), Some(object));
    }
    if let Ok(json) = json_of(data) {
        let yaml = yaml_of(&json).expect("JSON of our own");
        assert_eq!(json_of(&yaml), Ok(json));
    }
}

/// A row of a Table makes a Table of its own.
fn listed_row(head: &ListHead, item: &ListItem) {
    assert_eq!(read_row_meta(&item.bytes), Ok(item.meta.clone()));
    let table = table_of_one(1, &head.columns, &item.bytes);
    let one = open_table(&table).expect("a Table of our own");
    assert_eq!(
        (one.columns, one.row),
        (head.columns.clone(), item.bytes.clone())
    );
    let meta = read_meta(Encoding::Json, &table).expect("a Table of our own");
    assert_eq!((&*meta.kind, &meta.uid), (TABLE_KIND, &item.meta.uid));
}

/// How many bytes to a piece: the last byte decides, so that an input and its cut are found together.
fn piece_len(data: &[u8]) -> usize {
    usize::from(data.last().copied().unwrap_or(0) % 16) + 1
}

fn watch(encoding: Encoding, data: &[u8]) {
    let whole = split_watch(encoding, data, data.len().max(1));
    assert_eq!(whole, split_watch(encoding, data, piece_len(data)));
    for event in &whole.0 {
        let again = watch_event(encoding, event.kind, &event.object);
        let (events, error) = split_watch(encoding, &again, again.len());
        assert_eq!((events.len(), error), (1, None));
        assert_eq!(events[0].object, event.object);
        assert_eq!(events[0].meta, event.meta);
    }
}

fn split_watch(
    encoding: Encoding,
    data: &[u8],
    piece: usize,
) -> (Vec<WatchEvent>, Option<WireError>) {
    let mut splitter = WatchSplitter::new(encoding);
    let mut events = Vec::new();
    for piece in data.chunks(piece) {
        splitter.feed(Bytes::copy_from_slice(piece));
        loop {
            match splitter.next() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
    }
    (events, None)
}

fn list(encoding: Encoding, data: &[u8]) -> Option<(ListHead, Vec<ListItem>)> {
    let whole = split_list(encoding, data, data.len().max(1));
    assert_eq!(whole, split_list(encoding, data, piece_len(data)));
    let (head, items) = whole.ok()?;
    let bytes: Vec<Bytes> = items.iter().map(|item| item.bytes.clone()).collect();
    let body = list_body(encoding, &head, bytes.clone().iter().map(Bytes::len), bytes);
    let length = body.content_length();
    let written = body.collect::<Vec<_>>().concat();
    assert_eq!(written.len() as u64, length);
    let read = split_list(encoding, &written, written.len());
    assert_eq!(read, Ok((head.clone(), items.clone())));
    Some((head, items))
}

fn split_list(
    encoding: Encoding,
    data: &[u8],
    piece: usize,
) -> Result<(ListHead, Vec<ListItem>), WireError> {
    let mut splitter = ListSplitter::new(encoding);
    let mut items = Vec::new();
    for piece in data.chunks(piece) {
        splitter.feed(piece, &mut |item| items.push(item))?;
    }
    Ok((splitter.finish()?, items))
}
