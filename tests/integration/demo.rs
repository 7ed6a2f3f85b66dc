//! Each line of the demo on a cluster of its own.

use std::time::Duration;

use anyhow::Result;
use holdfast_tests::demo::alone;

/// Shorter than the demo's: what a longer outage adds is only waiting.
const OUTAGE: Duration = Duration::from_secs(6);

macro_rules! lines {
    ($($number:literal $name:ident)+) => {
        $(
            #[test]
            fn $name() -> Result<()> {
                alone($number, OUTAGE).map(drop)
            }
        )+
    };
}

lines! {
    0 without_holdfast_and_without_a_route_nothing_answers
    1 pods_from_before_and_after_reach_holdfast_through_the_vip
    2 online_bytes_equal_those_of_a_direct_connection
    3 writes_reach_the_api_server_and_come_back_through_the_watch
    4 reads_go_on_when_the_api_server_is_killed
    5 reads_go_on_in_a_black_hole
    6 a_new_pod_gets_what_its_account_was_granted_and_another_account_nothing
    7 a_watch_list_opened_offline_syncs_and_a_held_watch_stays_open
    8 offline_a_write_is_503_never_seen_is_503_and_deleted_is_404
    9 kill_9_goes_direct_and_a_start_in_the_dark_serves
    10 after_a_cut_informers_get_what_they_missed_and_nobody_lists
}
