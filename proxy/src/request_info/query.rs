//! The query of a read, decoded as the API server decodes it.
//!
//! Sources of the rules: `apimachinery:pkg/apis/meta/v1/zz_generated.conversion.go`, `apimachinery:pkg/runtime/conversion.go`,
//! `apiserver:pkg/endpoints/handlers/negotiation/negotiate.go`, Go's `net/url`.

use percent_encoding::percent_decode_str;

use super::ListOptions;
use super::selector::FieldSelector;

/// What [`Query::list_options`] reads.
const LIST_OPTIONS: [&str; 10] = [
    "labelSelector",
    "fieldSelector",
    "watch",
    "allowWatchBookmarks",
    "resourceVersion",
    "resourceVersionMatch",
    "timeoutSeconds",
    "limit",
    "continue",
    "sendInitialEvents",
];

/// Parameters that never change an answer, or that [`Query::changes_answer`] judges.
const JUDGED_ELSEWHERE: [&str; 4] = ["timeout", "pretty", "includeObject", "export"];

/// Every option of Kubernetes is shorter; a caller can't make what is logged of it long.
const UNKNOWN_NAME_CHARS: usize = 64;

/// Decoded pairs, in the order of the wire. Of a repeated parameter the first counts.
pub(super) struct Query {
    pairs: Vec<(String, String)>,
    /// A pair that Go's parser drops.
    malformed: bool,
}

impl Query {
    pub(super) fn parse(query: &str) -> Self {
        let mut malformed = false;
        let mut pairs = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match decode_pair(pair) {
                Some(pair) => pairs.push(pair),
                None => malformed = true,
            }
        }
        Self { pairs, malformed }
    }

    /// The first value of `name`; empty when absent.
    pub(super) fn first(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// The options of a LIST or WATCH, and whether the API server can decode them. Where it can't, only `watch` and the raw selectors are read.
    pub(super) fn list_options(&self) -> (ListOptions, bool) {
        let selectors = ListOptions {
            label_selector: self.first("labelSelector").to_owned(),
            field_selector: self.first("fieldSelector").to_owned(),
            watch: self.truthy("watch").unwrap_or(false),
            unknown: self.unknown(),
            ..ListOptions::default()
        };
        match self.decode_rest(&selectors) {
            Ok(options) => (options, true),
            Err(undecodable) => {
                let unknown = Some(undecodable.to_owned());
                let options = ListOptions {
                    unknown,
                    ..selectors
                };
                (options, false)
            }
        }
    }

    /// The parameter, if any, that changes the bytes of an answer without changing what it is about.
    pub(super) fn changes_answer(&self) -> Option<String> {
        let pretty = matches!(
            self.first("pretty"),
            "1" | "t" | "T" | "true" | "TRUE" | "True"
        );
        let include = !matches!(self.first("includeObject"), "" | "Metadata" | "Object");
        let export = self.truthy("export").unwrap_or(false);
        [
            (pretty, "pretty"),
            (include, "includeObject"),
            (export, "export"),
        ]
        .into_iter()
        .find_map(|(changes, name)| changes.then(|| name.to_owned()))
    }

    fn decode_rest(&self, selectors: &ListOptions) -> Result<ListOptions, &'static str> {
        FieldSelector::parse(&selectors.field_selector).map_err(|_| "fieldSelector")?;
        let timeout_seconds = self.integer("timeoutSeconds")?;
        let limit = self.integer("limit")?;
        let negative = [("timeoutSeconds", timeout_seconds), ("limit", limit)]
            .into_iter()
            .find_map(|(name, value)| (value < 0).then(|| name.to_owned()));
        Ok(ListOptions {
            allow_watch_bookmarks: self.truthy("allowWatchBookmarks").unwrap_or(false),
            resource_version: self.first("resourceVersion").to_owned(),
            resource_version_match: self.first("resourceVersionMatch").to_owned(),
            timeout_seconds: positive(timeout_seconds),
            limit: positive(limit),
            continue_token: self.first("continue").to_owned(),
            send_initial_events: self.truthy("sendInitialEvents"),
            unknown: negative.or_else(|| selectors.unknown.clone()),
            ..selectors.clone()
        })
    }

    /// The first parameter, if any, that this version can't say the meaning of. A GET of one object ignores the options of a list.
    pub(super) fn unknown(&self) -> Option<String> {
        let known = |name: &str| LIST_OPTIONS.contains(&name) || JUDGED_ELSEWHERE.contains(&name);
        let unknown = self.pairs.iter().find(|(name, _)| !known(name));
        unknown
            .map(|(name, _)| name.chars().take(UNKNOWN_NAME_CHARS).collect())
            .or_else(|| self.malformed.then(|| "malformed".to_owned()))
    }

    fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.pairs.iter().find(|(key, _)| key == name)?;
        Some(value)
    }

    /// Everything but `0` and `false` is true, the empty value too.
    fn truthy(&self, name: &str) -> Option<bool> {
        let value = self.get(name)?;
        Some(value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    /// A 64-bit decimal; 0 when absent. The error is the name.
    fn integer(&self, name: &'static str) -> Result<i64, &'static str> {
        match self.get(name) {
            None => Ok(0),
            Some(value) => value.parse().map_err(|_| name),
        }
    }
}

/// The name that a field selector requires of an object, when it can be one.
pub(super) fn selected_name(field_selector: &str) -> Option<String> {
    let selector = FieldSelector::parse(field_selector).ok()?;
    let name = selector.required("metadata.name")?;
    let legal = name != "." && name != ".." && !name.contains(['/', '%']);
    legal.then(|| name.to_owned())
}

/// Every `%` is followed by two hexadecimal digits.
pub(super) fn is_well_escaped(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

fn positive(value: i64) -> Option<u64> {
    u64::try_from(value).ok().filter(|value| *value > 0)
}

/// `None` for what Go drops (a semicolon, a bad escape), and for what is not UTF-8.
fn decode_pair(pair: &str) -> Option<(String, String)> {
    if pair.contains(';') {
        return None;
    }
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    Some((decode_component(name)?, decode_component(value)?))
}

fn decode_component(text: &str) -> Option<String> {
    if !is_well_escaped(text) {
        return None;
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
    Some(decoded.into_owned())
}
