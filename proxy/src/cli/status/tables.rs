//! The document of `/status` as text. What is absent is left out: an older or newer agent may say less or more.

use std::fmt::Write;

use serde_json::Value;

/// uplink, servers, namespaces, collections.
pub(super) fn render(status: &Value) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "Uplink: {}", cell(&status["uplink"]));
    servers(&mut text, &status["servers"]);
    intercept(&mut text, &status["intercept"]);
    conditions(&mut text, &status["conditions"]);
    cache(&mut text, &status["cache"]);
    text
}

fn servers(text: &mut String, servers: &Value) {
    let rows = rows(servers, |server| {
        vec![
            cell(&server["server"]),
            cell(&server["state"]),
            server["lastHeardMs"].as_u64().map_or_else(
                || "never".to_owned(),
                |ms| format!("{} ago", age(ms / 1000)),
            ),
            cell(&server["connections"]),
            cell(&server["lastError"]),
        ]
    });
    table(
        text,
        &["SERVER", "STATE", "HEARD", "CONNECTIONS", "LAST ERROR"],
        &rows,
    );
}

fn intercept(text: &mut String, intercept: &Value) {
    if !intercept.is_object() {
        text.push_str("\nIntercept: none\n");
        return;
    }
    let attached = intercept["attachedTo"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let attached: Vec<String> = attached.iter().map(cell).collect();
    let attached = match attached.is_empty() {
        true => "nothing".to_owned(),
        false => attached.join(", "),
    };
    let _ = writeln!(
        text,
        "\nIntercept: attached to {attached}; {} namespaces, {} redirects, {} misses",
        cell(&intercept["namespaces"]),
        cell(&intercept["redirects"]),
        cell(&intercept["misses"]),
    );
}

/// What wants attention.
fn conditions(text: &mut String, conditions: &Value) {
    for condition in conditions.as_array().into_iter().flatten() {
        let _ = writeln!(text, "  ! {}", cell(condition));
    }
}

fn cache(text: &mut String, cache: &Value) {
    if !cache.is_object() {
        return;
    }
    let _ = writeln!(
        text,
        "\nCache: on {}; {} facts, {} grants, {} responses",
        cell(&cache["backing"]),
        cell(&cache["facts"]),
        cell(&cache["grants"]),
        cell(&cache["responses"]),
    );
    if cache["condition"].is_string() {
        let _ = writeln!(text, "  ! {}", cell(&cache["condition"]));
    }
    let rows = rows(&cache["collections"], |collection| {
        let selectors = [&collection["labelSelector"], &collection["fieldSelector"]];
        let selectors: Vec<String> = selectors
            .into_iter()
            .filter(|selector| selector.as_str().is_some_and(|text| !text.is_empty()))
            .map(cell)
            .collect();
        vec![
            cell(&collection["resource"]),
            collection["namespace"]
                .as_str()
                .filter(|namespace| !namespace.is_empty())
                .map_or_else(|| "(all)".to_owned(), |_| cell(&collection["namespace"])),
            if selectors.is_empty() {
                "-".to_owned()
            } else {
                selectors.join(" & ")
            },
            cell(&collection["encoding"]),
            cell(&collection["resourceVersion"]),
            cell(&collection["objects"]),
            collection["ageSeconds"]
                .as_u64()
                .map_or_else(|| "-".to_owned(), age),
        ]
    });
    table(
        text,
        &[
            "COLLECTION",
            "NAMESPACE",
            "SELECTOR",
            "ENCODING",
            "RV",
            "OBJECTS",
            "AGE",
        ],
        &rows,
    );
}

fn rows(list: &Value, row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    list.as_array().into_iter().flatten().map(row).collect()
}

/// One value on one line. Names come from whoever wrote objects: no control character reaches the terminal.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect(),
        other => other.to_string(),
    }
}

/// As kubectl writes ages: the two largest units at most.
fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m{}s", seconds / 60, seconds % 60),
        7200..172_800 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Columns as wide as their widest cell, three spaces between; nothing for no rows.
fn table(text: &mut String, head: &[&str], rows: &[Vec<String>]) {
    if rows.is_empty() {
        return;
    }
    let head: Vec<String> = head.iter().map(|title| (*title).to_owned()).collect();
    let lines = || std::iter::once(&head).chain(rows);
    let width = |column: usize| {
        lines()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..head.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    text.push('\n');
    for line in lines() {
        let mut padded = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(padded, "{cell:width$}   ");
        }
        text.push_str(padded.trim_end());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_document_becomes_aligned_tables() {
        let status = json!({
            "uplink": "down",
            "servers": [{"server": "https://192.0.2.10:6443", "state": "down", "lastHeardMs": 65_000, "connections": 0, "lastError": "refused"}],
            "intercept": {"attachedTo": ["/sys/fs/cgroup/kubepods.slice"], "namespaces": 3, "redirects": 41, "misses": 0},
            "conditions": ["gone"],
            "cache": {"backing": "disk", "condition": null, "facts": 7, "grants": 2, "responses": 1, "collections": [
                {"resource": "pods", "namespace": "", "labelSelector": "a=b", "fieldSelector": "", "encoding": "json", "resourceVersion": 12, "objects": 7, "ageSeconds": 8000},
            ]},
        });
        assert_eq!(
            render(&status),
            "Uplink: down\n\n\
             SERVER                    STATE   HEARD     CONNECTIONS   LAST ERROR\n\
             https://192.0.2.10:6443   down    65s ago   0             refused\n\n\
             Intercept: attached to /sys/fs/cgroup/kubepods.slice; 3 namespaces, 41 redirects, 0 misses\n  ! gone\n\n\
             Cache: on disk; 7 facts, 2 grants, 1 responses\n\n\
             COLLECTION   NAMESPACE   SELECTOR   ENCODING   RV   OBJECTS   AGE\n\
             pods         (all)       a=b        json       12   7         2h13m\n"
        );
    }

    #[test]
    fn what_is_absent_or_hostile_does_no_harm() {
        assert_eq!(render(&json!({})), "Uplink: -\n\nIntercept: none\n");
        let hostile =
            json!({"uplink": "\u{1b}[2J", "servers": [{}], "cache": {"collections": [1, "x", {}]}});
        assert!(!render(&hostile).contains('\u{1b}'));
    }
}
