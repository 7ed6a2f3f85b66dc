//! What a real API server said, told again byte for byte: whichever way it was learnt, whichever way it is asked for.
//! The recordings are those of `wire/testdata`.

use super::*;

const CONFIG_MAPS: &str = "/api/v1/namespaces/a/configmaps";
const ONE: &str = "/api/v1/namespaces/a/configmaps/one";
const WIDGETS: &str = "/apis/test.dev/v1/namespaces/a/widgets";

struct Recorded {
    accept: &'static str,
    watch_content_type: &'static str,
    encoding: Encoding,
    one: &'static [u8],
    list: &'static [u8],
    initial: &'static [u8],
    /// From before the first of the two objects to the RV of the list.
    watch: &'static [u8],
}

const RECORDED: [Recorded; 2] = [
    Recorded {
        accept: JSON,
        watch_content_type: JSON,
        encoding: Encoding::Json,
        one: include_bytes!("../wire/testdata/one.json"),
        list: include_bytes!("../wire/testdata/list.json"),
        initial: include_bytes!("../wire/testdata/initial.json"),
        watch: include_bytes!("../wire/testdata/watch.json"),
    },
    Recorded {
        accept: PROTOBUF,
        watch_content_type: "application/vnd.kubernetes.protobuf;stream=watch",
        encoding: Encoding::Protobuf,
        one: include_bytes!("../wire/testdata/one.pb"),
        list: include_bytes!("../wire/testdata/list.pb"),
        initial: include_bytes!("../wire/testdata/initial.pb"),
        watch: include_bytes!("../wire/testdata/watch.pb"),
    },
];

fn stream(bench: &Bench, uri: &str, content_type: &str, encoding: Encoding, bytes: &'static [u8]) {
    let mut feed = bench
        .cache
        .watch_feed(
            &caller("x"),
            &info(uri),
            &headers(ACCEPT, content_type),
            &ok(content_type),
            now(),
        )
        .expect("can be learnt from");
    let mut splitter = WatchSplitter::new(encoding);
    splitter.feed(Bytes::from_static(bytes));
    while let Some(event) = splitter.next().expect("events") {
        feed.event(&event);
    }
}

async fn answered(bench: &Bench, uri: &str, accept: &str) -> (HeaderValue, Vec<u8>) {
    match bench.ask("x", uri, accept).expect("known") {
        Answer::Response(response) => {
            let content_type = response.headers()[CONTENT_TYPE].clone();
            let body = response.into_body().collect().await.expect("a body");
            (content_type, body.to_bytes().to_vec())
        }
        Answer::Watch(mut watch) => {
            let frames = frames(&mut watch).await.expect("all of them");
            (watch.headers[CONTENT_TYPE].clone(), frames.concat())
        }
    }
}

#[tokio::test]
async fn a_list_a_get_and_a_watch_list_are_told_again_however_they_were_learnt() {
    for recorded in RECORDED {
        let Recorded {
            accept,
            watch_content_type,
            encoding,
            ..
        } = recorded;
        let watch_list = format!("{CONFIG_MAPS}?{WATCH_LIST}");
        let by_list = Bench::new();
        by_list.try_learn("x", CONFIG_MAPS, accept, recorded.list, true);
        let by_watch_list = Bench::new();
        stream(
            &by_watch_list,
            &watch_list,
            watch_content_type,
            encoding,
            recorded.initial,
        );
        let by_watch = Bench::new();
        by_watch.learn_empty(encoding, accept);
        let since = format!("{CONFIG_MAPS}?watch=1&allowWatchBookmarks=1&resourceVersion=204");
        stream(
            &by_watch,
            &since,
            watch_content_type,
            encoding,
            recorded.watch,
        );
        for (way, bench) in [
            ("list", by_list),
            ("watch list", by_watch_list),
            ("watch", by_watch),
        ] {
            for written in [false, true] {
                // What was read as protobuf has a JSON too.
                for asked in RECORDED {
                    if encoding == Encoding::Json && asked.encoding == Encoding::Protobuf {
                        continue;
                    }
                    let told = format!("{accept} learnt by {way}, on the disk: {written}");
                    asked.is_told(&bench, &watch_list, &told).await;
                }
                bench.commit().await;
            }
        }
    }
}

impl Recorded {
    async fn is_told(&self, bench: &Bench, watch_list: &str, told: &str) {
        assert_eq!(
            answered(bench, CONFIG_MAPS, self.accept).await,
            (HeaderValue::from_static(self.accept), self.list.to_vec()),
            "{told}"
        );
        assert_eq!(
            answered(bench, ONE, self.accept).await.1,
            self.one,
            "{told}"
        );
        let initial = answered(bench, watch_list, self.accept).await;
        assert_eq!(
            initial,
            (
                HeaderValue::from_static(self.watch_content_type),
                self.initial.to_vec()
            ),
            "{told}"
        );
    }
}

impl Bench {
    /// The namespace before anything was in it.
    fn learn_empty(&self, encoding: Encoding, accept: &str) {
        use crate::cache::wire::{ListHead, list_body};
        let head = ListHead {
            api_version: "v1".to_owned(),
            kind: "ConfigMapList".to_owned(),
            resource_version: 204,
            ..ListHead::default()
        };
        let list: Vec<Bytes> = list_body(encoding, &head, std::iter::empty(), Vec::new()).collect();
        self.try_learn("x", CONFIG_MAPS, accept, &list.concat(), true);
    }
}

#[tokio::test]
async fn an_object_learnt_alone_is_told_again() {
    for recorded in RECORDED {
        let bench = Bench::new();
        bench.try_learn("x", ONE, recorded.accept, recorded.one, true);
        assert_eq!(answered(&bench, ONE, recorded.accept).await.1, recorded.one);
    }
}

#[tokio::test]
async fn a_custom_resource_is_told_again() {
    let list = include_bytes!("../wire/testdata/cr-list.json");
    let one = include_bytes!("../wire/testdata/cr-one.json");
    let watch = include_bytes!("../wire/testdata/cr-watch.json");
    let watch_list = format!("{WIDGETS}?{WATCH_LIST}");
    let by_list = Bench::new();
    by_list.try_learn("x", WIDGETS, JSON, list, true);
    let by_watch_list = Bench::new();
    stream(&by_watch_list, &watch_list, JSON, Encoding::Json, watch);
    for bench in [by_list, by_watch_list] {
        let value =
            |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).expect("JSON");
        let mut expected = value(list);
        // Custom resources spell out that there is no next page.
        expected["metadata"]
            .as_object_mut()
            .expect("metadata")
            .remove("continue");
        assert_eq!(value(&answered(&bench, WIDGETS, JSON).await.1), expected);
        assert_eq!(answered(&bench, &format!("{WIDGETS}/w"), JSON).await.1, one);
        let frames = answered(&bench, &watch_list, JSON).await.1;
        let added = watch
            .split_inclusive(|byte| *byte == b'\n')
            .next()
            .expect("a frame");
        assert!(frames.starts_with(added));
    }
}
