//! YAML against that of the API server, and there and back.

use serde_json::{Value, json};

use super::*;

/// Objects in JSON beside the YAML of the same.
fn recorded() -> [(Bytes, Bytes); 3] {
    [
        (recorded!("web.json"), recorded!("web.yaml")),
        (recorded!("yaml.json"), recorded!("yaml.yaml")),
        (recorded!("yaml-cr.json"), recorded!("yaml-cr.yaml")),
    ]
}

/// Lists, likewise.
fn recorded_lists() -> [(Bytes, Bytes); 3] {
    [
        (recorded!("yaml-list.json"), recorded!("yaml-list.yaml")),
        (recorded!("yaml-page.json"), recorded!("yaml-page.yaml")),
        (recorded!("yaml-empty.json"), recorded!("yaml-empty.yaml")),
    ]
}

fn value(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

fn list_of(json: &Bytes) -> Vec<u8> {
    let (head, items) = list(Json, &[json]).unwrap();
    let parts = yaml_list_body(&head, items.into_iter().map(|item| item.bytes));
    parts.collect::<Result<Vec<_>, _>>().unwrap().concat()
}

#[test]
fn recorded_yaml_is_read_back_as_the_json_of_the_same_object() {
    for (json, yaml) in recorded().into_iter().chain(recorded_lists()) {
        let (mut json, mut yaml) = (value(&json), value(&json_of(&yaml).unwrap()));
        // Here the API server itself has lost a NEL: YAML 1.1 takes it for a line break.
        if let Some(nel) = json.pointer_mut("/data/k72") {
            assert_eq!(nel.take(), "\u{85}nel");
            assert_eq!(yaml["data"]["k72"].take(), " nel");
        }
        assert_eq!(yaml, json);
    }
}

#[test]
fn yaml_is_what_two_readers_take_for_the_json_it_was_made_from() {
    for (json, _) in recorded() {
        let yaml = yaml_of(&json).unwrap();
        assert_eq!(value(&json_of(&yaml).unwrap()), value(&json));
        let other: Value = serde_saphyr::from_str(text(&yaml)).unwrap();
        assert_eq!(other, value(&json));
    }
    for (json, _) in recorded_lists() {
        let yaml = list_of(&json);
        assert_eq!(value(&json_of(&yaml).unwrap()), value(&json));
    }
}

/// A line without its quotes and what they escape, and without an indentation of nothing.
fn layout(line: &str) -> String {
    line.replace(['"', '\'', '\\'], "").trim_end().to_owned()
}

#[test]
fn yaml_has_the_lines_and_the_order_of_the_api_server() {
    let lists = recorded_lists().map(|(json, yaml)| (Bytes::from(list_of(&json)), yaml));
    let [(web, web_yaml), ..] = recorded();
    let object = (yaml_of(&web).unwrap(), web_yaml);
    for (ours, theirs) in lists.into_iter().chain([object]) {
        let ours: Vec<_> = text(&ours).lines().map(layout).collect();
        let theirs: Vec<_> = text(&theirs).lines().map(layout).collect();
        assert_eq!(ours, theirs);
    }
}

#[test]
fn keys_stand_in_the_order_of_the_api_server_and_text_in_its_blocks() {
    let [_, (json, theirs), _] = recorded();
    let ours = yaml_of(&json).unwrap();
    let keys = |yaml: &Bytes| -> Vec<String> {
        let lines = text(yaml).lines().skip_while(|line| *line != "data:");
        let own = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        own.filter_map(|line| Some(layout(line.split_once(':')?.0)))
            .collect()
    };
    assert_eq!(keys(&ours), keys(&theirs));
    for block in [
        "  k53: |-\n    line1\n    line2\n",
        "  k54: |\n    line1\n    line2\n",
        "  k74: |\n    # comment\n    k: v\n",
    ] {
        assert!(
            text(&theirs).contains(block) && text(&ours).contains(block),
            "{block}"
        );
    }
}

#[test]
fn what_a_reader_could_take_for_another_type_is_quoted() {
    for word in [
        "",
        "~",
        "null",
        "Null",
        "true",
        "True",
        "no",
        "on",
        "y",
        "0",
        "-0",
        "1.5",
        "1e3",
        "0x1F",
        "0o7",
        "007",
        "1_000",
        ".inf",
        ".nan",
        "2001-01-01",
        "12:30:45",
        "=",
        "<<",
        "- x",
        "#c",
        "a: b",
        "a #b",
        "&a",
        "*a",
        "!t",
        "%p",
        "@at",
    ] {
        let object = json!({ word: word, "in": [word] });
        let yaml = yaml_of(object.to_string().as_bytes()).unwrap();
        let quoted = text(&yaml).matches(['"', '\'']).count();
        assert_eq!(quoted, 6, "{}", text(&yaml));
    }
}

#[test]
fn random_objects_survive_yaml() {
    let nasty = [
        '"', '\'', '\\', ' ', '\n', '\r', '\t', ':', '#', '-', '?', '|', '>', '&', '*', '!', '%',
        '@', '`', '{', ']', ',', '~', '=', '<', '0', '1', '.', 'e', '+', '_', 'x', 'y', 'N', 'é',
        '😀', '\u{0}', '\u{1}', '\u{7f}', '\u{85}', '\u{a0}', '\u{2028}', '\u{2029}', '\u{feff}',
        '\u{fffe}',
    ];
    let mut random = fastrand::Rng::with_seed(13);
    for round in 0..1000 {
        let word = |random: &mut fastrand::Rng| -> String {
            (0..random.usize(..8))
                .map(|_| *random.choice(&nasty).unwrap_or(&'a'))
                .collect()
        };
        let words: Vec<String> = (0..4).map(|_| word(&mut random)).collect();
        let object = json!({
            &words[0]: &words[1],
            "list": [&words[2], [&words[3]], {&words[3]: [{&words[1]: &words[0]}]}],
            "number": random.i64(..) as f64 / 10f64.powi(random.i32(0..30)),
            "whole": random.u64(..),
            "deep": random_value(&mut random, 4),
        });
        let json = object.to_string();
        let yaml = yaml_of(json.as_bytes()).unwrap();
        assert_eq!(
            json_of(&yaml).map(|json| value(&json)),
            Ok(object.clone()),
            "{round}: {}",
            text(&yaml)
        );
        let other: Result<Value, _> = serde_saphyr::from_str(text(&yaml));
        assert_eq!(other.ok(), Some(object), "{round}: {}", text(&yaml));
    }
}

#[test]
fn an_item_that_is_not_json_breaks_the_list_off() {
    let items = ["{}", "{"].map(Bytes::from);
    let parts: Vec<_> = yaml_list_body(&ListHead::default(), items).collect();
    assert!(parts[0].is_ok() && parts[1].is_ok());
    assert_eq!(parts[2], Err(WireError::Malformed("JSON object")));
}

#[test]
fn what_is_not_one_plain_object_is_refused() {
    for yaml in [
        "",
        "a",
        "- a",
        "a: 1\n---\nb: 2\n",
        "a: 1\na: 2\n",
        "a: &x 1\nb: *x\n",
        "a: *x\n",
        "a: !!str 1\n",
        "a: !mine {}\n",
        "a: 1 # one\n",
        "? [a]\n: 1\n",
        "? {a: 1}\n: 1\n",
        "a: [1\n",
        "a: \"\n",
        "a: \u{1}\n",
    ] {
        assert!(json_of(yaml.as_bytes()).is_err(), "{yaml:?}");
    }
    assert!(json_of(b"a: \xff\n").is_err());
    let deep = |depth: usize| format!("a: {}{}", "[".repeat(depth), "]".repeat(depth));
    let deepest = json_of(deep(126).as_bytes()).unwrap();
    assert!(serde_json::from_slice::<Value>(&deepest).is_ok());
    assert!(json_of(deep(127).as_bytes()).is_err());
    assert!(json_of(deep(100_000).as_bytes()).is_err());
    let large = format!("a: {}\n", "x".repeat(MAX_OBJECT_BYTES));
    let too_large = WireError::TooLarge("object in YAML", MAX_OBJECT_BYTES);
    assert_eq!(json_of(large.as_bytes()), Err(too_large));
    let deep = format!("{}1{}", "[".repeat(1000), "]".repeat(1000));
    assert!(yaml_of(deep.as_bytes()).is_err());
}

#[test]
fn a_scalar_without_quotes_is_what_the_api_server_meant() {
    let yaml = "a: null\nb: ~\nc:\nd: true\ne: False\nf: -7\ng: 1.234567895e+08\nh: 1e400\ni: 0x1F\nj: 18446744073709551615\n1: y\n";
    assert_eq!(
        text(&json_of(yaml.as_bytes()).unwrap()),
        r#"{"1":"y","a":null,"b":null,"c":null,"d":true,"e":"False","f":-7,"g":123456789.5,"h":"1e400","i":"0x1F","j":18446744073709551615}"#
    );
}
