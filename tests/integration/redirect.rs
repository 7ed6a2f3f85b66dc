//! The redirect under adverse conditions: real programs, a real kernel, real pods of the harness. What answers is a word,
//! "holdfast" behind the redirect and "direct" at the destination itself, so that each test sees where a connect came out.

mod daemon;
mod scene;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use holdfast_tests::node::VIP;
use holdfast_tests::process::output;
use holdfast_tests::{Node, Pod, eventually};
use nix::sys::signal::Signal;

use daemon::{Daemon, PORT};
use scene::{Scene, dial, lines, python, run, script, spawn, was_redirected, went_direct};

/// What takes effect at once, with room for a busy machine.
const SOON: Duration = Duration::from_secs(5);

#[test]
#[ignore = "the daemon that the other tests start"]
fn daemon() -> Result<()> {
    daemon::main()
}

#[test]
fn pods_that_were_there_before_and_pods_that_come_after_are_redirected() -> Result<()> {
    let scene = Scene::new()?;
    let before = scene.lonely_pod()?;
    let control = dial(&before, &[])?;
    ensure!(control["error"] == "ENETUNREACH", "{control}");

    let mut daemon = Daemon::start(&scene.node)?;
    let dialled = dial(&before, &[])?;
    was_redirected(&dialled, &before)?;
    ensure!(
        dialled["peer"] == VIP,
        "getpeername shows what was dialled: {dialled}"
    );

    let after = scene.lonely_pod()?;
    daemon.until("two namespaces", |s| (s["namespaces"] == 2).then_some(()))?;
    was_redirected(&dial(&after, &[])?, &after)?;
    daemon.until("two redirects", |s| (s["redirects"] == 2).then_some(()))?;
    Ok(())
}

/// ebpf case 1.
#[test]
fn killed_under_load_it_costs_no_connect() -> Result<()> {
    let scene = Scene::new()?;
    let pod = scene.pod()?;
    let mut daemon = Daemon::start(&scene.node)?;
    was_redirected(&dial(&pod, &[])?, &pod)?;
    let load = spawn(&pod, "load", &["load", VIP, "443", "--seconds", "3"])?;
    daemon.until("load", |s| (s["redirects"].as_u64()? > 50).then_some(()))?;
    daemon.process().kill()?;
    let told = load.wait_for("its sum", Duration::from_secs(20), |lines| {
        lines.first().cloned()
    })?;
    let count = |name: &str| told[name].as_u64().unwrap_or_default();
    ensure!(count("connect_errors") == 0, "{told}");
    ensure!(count("holdfast") > 50 && count("direct") > 50, "{told}");
    // One connection was under way when it died, one may have been in its backlog.
    ensure!(count("broken") <= 2, "{told}");
    Ok(())
}

/// ebpf case 2.
#[test]
fn a_hung_holdfast_is_passed_by_until_it_beats_again() -> Result<()> {
    let scene = Scene::new()?;
    let pod = scene.pod()?;
    let mut daemon = Daemon::start(&scene.node)?;
    was_redirected(&dial(&pod, &[])?, &pod)?;
    daemon.process().signal(Signal::SIGSTOP)?;
    let stopped = Instant::now();
    eventually("direct connections", 3 * Duration::from_secs(2), || {
        went_direct(&dial(&pod, &["--timeout", "0.5"])?)
    })?;
    ensure!(
        stopped.elapsed() > Duration::from_secs(1),
        "a short pause is no hang: {:?}",
        stopped.elapsed()
    );
    daemon.process().signal(Signal::SIGCONT)?;
    eventually("the redirect again", SOON, || {
        was_redirected(&dial(&pod, &["--timeout", "0.5"])?, &pod)
    })
}

/// ebpf case 3.
#[test]
fn a_pod_that_holds_the_port_itself_goes_direct_and_the_status_says_so() -> Result<()> {
    let scene = Scene::new()?;
    let pod = scene.pod()?;
    let port = PORT.to_string();
    let server = spawn(&pod, "server", &["serve", "127.0.0.1", &port])?;
    server.wait_for("serving", SOON, |lines| lines.first().map(drop))?;
    let mut daemon = Daemon::start(&scene.node)?;
    went_direct(&dial(&pod, &[])?)?;
    daemon.until("a miss", |s| (s["misses"].as_u64()? > 0).then_some(()))?;
    let uid = pod.admitted().uid.clone();
    daemon.until("a condition", |status| {
        let mut conditions = status["conditions"].as_array()?.iter();
        conditions
            .any(|line| {
                line.as_str()
                    .is_some_and(|line| line.contains(&uid) && line.contains("taken"))
            })
            .then_some(())
    })?;
    drop(server);
    eventually("the freed port to be taken", SOON, || {
        was_redirected(&dial(&pod, &[])?, &pod)
    })
}

/// ebpf case 4.
#[test]
fn an_untagged_listener_on_the_port_is_never_redirected_to() -> Result<()> {
    let scene = Scene::new()?;
    let pod = scene.lonely_pod()?;
    let _daemon = Daemon::start(&scene.node)?;
    let port = PORT.to_string();
    let words = ["forge", VIP, "443", "--other-port", &port, "--times", "5"];
    let told = run(&pod, &words)?;
    let (last, dials) = told.split_last().context("it said nothing")?;
    ensure!(last["forged"] == "never asked", "{told:?}");
    ensure!(
        dials.len() == 5 && dials.iter().all(|dial| dial["error"] == "ENETUNREACH"),
        "{told:?}"
    );
    Ok(())
}

/// ebpf case 5 is every lonely pod; 8, 10 and the first three of 11 are ways to connect.
#[test]
fn every_way_to_connect_is_redirected() -> Result<()> {
    let scene = Scene::new()?;
    let pod = scene.pod()?;
    let _daemon = Daemon::start(&scene.node)?;
    let own = own_address(&pod)?;
    for way in [
        &["--nonblock"][..],
        &["--tfo"],
        &["--io-uring"],
        &["--bind", &own],
    ] {
        let dialled = dial(&pod, way)?;
        was_redirected(&dialled, &pod).with_context(|| format!("{way:?}"))?;
        ensure!(dialled["peer"] == VIP, "{way:?}: {dialled}");
    }
    let mapped = run(&pod, &["mapped", VIP, "443"])?;
    let mapped = mapped.first().context("it said nothing")?;
    was_redirected(mapped, &pod)?;
    ensure!(mapped["peer"] == format!("::ffff:{VIP}"), "{mapped}");

    let v6 = run(&pod, &["dial", "2001:db8::1", "443"])?;
    let v6 = v6.first().context("it said nothing")?;
    was_redirected(v6, &pod)?;
    ensure!(v6["peer"] == "2001:db8::1", "{v6}");

    // Its subflow is redirected; the address it shows is known to be the subflow's.
    was_redirected(&dial(&pod, &["--mptcp"])?, &pod)
}

/// ebpf case 9.
#[test]
fn a_socket_bound_to_a_device_goes_direct() -> Result<()> {
    let scene = Scene::new()?;
    let pod = scene.pod()?;
    let _daemon = Daemon::start(&scene.node)?;
    went_direct(&dial(&pod, &["--device", "eth0"])?)?;
    was_redirected(&dial(&pod, &[])?, &pod)
}

/// ebpf case 11, its last part.
#[test]
fn a_socket_used_again_for_another_address_shows_its_true_peer() -> Result<()> {
    let scene = Scene::new()?;
    let pod = scene.pod()?;
    let _daemon = Daemon::start(&scene.node)?;
    let other = holdfast_tests::node::CONTROL_PLANE;
    let words = [
        "again",
        VIP,
        "443",
        "--other",
        other,
        "--other-port",
        "6443",
    ];
    let told = run(&pod, &words)?;
    let [first, second, third] = told.as_slice() else {
        anyhow::bail!("three connects: {told:?}");
    };
    was_redirected(first, &pod)?;
    went_direct(second)?;
    was_redirected(third, &pod)?;
    ensure!(
        first["peer"] == VIP && second["peer"] == other && third["peer"] == VIP,
        "{told:?}"
    );
    Ok(())
}

/// ebpf case 13: as a DaemonSet's pod with hostNetwork it is itself below kubepods.
#[test]
fn its_own_dials_never_come_back_to_it_and_another_host_network_pod_is_told_apart() -> Result<()> {
    let scene = Scene::new()?;
    let node = &scene.node;
    road(node)?;
    let own = host_network_pod(node, "0a0a0a0a-0000-4000-8000-000000000001")?;
    let daemon = Daemon::start_in(node, &own)?;
    let dials = &daemon.status()["dials"];
    ensure!(
        dials["tagged"] == "direct" && dials["untagged"] == "direct",
        "{dials}"
    );

    let uid = "0b0b0b0b-0000-4000-8000-000000000002";
    let other = host_network_pod(node, uid)?;
    let join = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;
    let mut words = vec!["-c".into(), join.into(), other.into_os_string()];
    words.push(python().into());
    words.extend(script(&["dial", VIP, "443"]));
    let told = lines(&output(&mut node.command("sh", words))?)?;
    let dialled = told.first().context("it said nothing")?;
    ensure!(
        dialled["said"] == format!("holdfast host {uid}") && dialled["peer"] == VIP,
        "{dialled}"
    );

    // Outside kubepods nothing is redirected.
    let words = script(&["dial", VIP, "443"]);
    let told = lines(&output(&mut node.command(python(), words))?)?;
    went_direct(told.first().context("it said nothing")?)
}

/// ebpf case 16.
#[test]
fn an_attach_folder_that_vanishes_is_reported_and_taken_up_again() -> Result<()> {
    let scene = Scene::new()?;
    let kubepods = scene.node.kubepods();
    let mut daemon = Daemon::start(&scene.node)?;
    remove_tree(&kubepods)?;
    daemon.until("a condition", |status| {
        let gone = status["attachedTo"].as_array()?.is_empty();
        (gone && !status["conditions"].as_array()?.is_empty()).then_some(())
    })?;
    std::fs::create_dir(&kubepods)?;
    let pod = scene.lonely_pod()?;
    eventually("the redirect again", 3 * SOON, || {
        was_redirected(&dial(&pod, &[])?, &pod)
    })
}

#[test]
fn the_kubepods_folder_is_found_when_none_is_configured() -> Result<()> {
    let scene = Scene::new()?;
    let kubepods = scene.node.kubepods();
    let root = kubepods.parent().context("kubepods has a parent")?;
    let mut daemon = Daemon::start_viewing(&scene.node, root)?;
    let attached = daemon.until("attached", |status| {
        Some(status["attachedTo"].as_array()?.first()?.to_string())
    })?;
    ensure!(attached.ends_with("/kubepods\""), "{attached}");
    let pod = scene.lonely_pod()?;
    eventually("the redirect", SOON, || {
        was_redirected(&dial(&pod, &[])?, &pod)
    })
}

/// ebpf case 25.
#[test]
fn a_private_view_of_the_cgroup_tree_is_not_attached_to_but_named() -> Result<()> {
    let scene = Scene::new()?;
    let kubepods = scene.node.kubepods();
    let system = kubepods.with_file_name("system");
    let mut daemon = Daemon::start_viewing(&scene.node, &system)?;
    daemon.until("the condition", |status| {
        let condition = status["conditions"].as_array()?.first()?.as_str()?;
        let named = condition.contains("give the container the host's /sys/fs/cgroup");
        (named && status["attachedTo"].as_array()?.is_empty()).then_some(())
    })
}

/// ebpf case 17.
#[test]
fn the_namespace_of_a_deleted_pod_is_freed_though_a_connection_was_open() -> Result<()> {
    let scene = Scene::new()?;
    let pod = scene.pod()?;
    let mut daemon = Daemon::start(&scene.node)?;
    let held = spawn(&pod, "held", &["hold", VIP, "443"])?;
    held.wait_for("its answer", SOON, |lines| lines.first().map(drop))?;
    daemon.until("its namespace", |s| (s["namespaces"] == 1).then_some(()))?;
    let links = || -> Result<usize> {
        let list = output(&mut scene.node.control_plane_command("ip", ["-o", "link"]))?;
        Ok(list.lines().filter(|line| line.contains(": pod")).count())
    };
    ensure!(
        links()? == 1,
        "the pod's veth has an end in the control plane"
    );
    held.kill()?;
    drop(pod);
    // The far end of a veth goes with the namespace of the near end.
    eventually("the veth to go", Duration::from_secs(2), || {
        let left = links()?;
        ensure!(left == 0, "{left} left");
        Ok(())
    })?;
    daemon.until("no namespace", |s| (s["namespaces"] == 0).then_some(()))
}

/// ebpf case 21.
#[test]
fn a_pod_that_dials_at_once_is_redirected_at_its_next_try() -> Result<()> {
    let scene = Scene::new()?;
    let _daemon = Daemon::start(&scene.node)?;
    let pod = scene.lonely_pod()?;
    eventually("the pod's own listener", SOON, || {
        was_redirected(&dial(&pod, &[])?, &pod)
    })?;
    // Nothing tells of a namespace that a settled pod makes, until its first connect misses.
    let inside = format!(
        "unshare --net sh -c 'ip link set lo up && exec {} {} repeat {VIP} 443 --times 100'",
        python().display(),
        holdfast_tests::assets::source("tests/python/dial.py").display()
    );
    let told = lines(&output(&mut pod.command("sh", ["-c", &inside]))?)?;
    let told = told.first().context("it said nothing")?;
    was_redirected(told, &pod)?;
    ensure!(
        told["failed"]
            .as_u64()
            .is_some_and(|failed| (1..=25).contains(&failed)),
        "the first try misses, one within half a second does not: {told}"
    );
    Ok(())
}

/// ebpf case 28.
#[test]
fn nothing_is_left_attached_when_it_ends() -> Result<()> {
    let scene = Scene::new()?;
    let pod = scene.pod()?;
    let attached = || -> Result<String> {
        let folder = scene.node.kubepods().display().to_string();
        output(&mut scene.node.command(python(), script(&["query", &folder])))
    };
    let none = r#"{"connect4": 0, "connect6": 0, "getpeername4": 0, "getpeername6": 0}"#;
    ensure!(attached()?.trim() == none, "{}", attached()?);
    let mut daemon = Daemon::start(&scene.node)?;
    ensure!(
        attached()?.trim() == none.replace('0', "1"),
        "{}",
        attached()?
    );
    daemon.process().kill()?;
    eventually("the links to go", SOON, || {
        let left = attached()?;
        ensure!(left.trim() == none, "{left}");
        Ok(())
    })?;
    went_direct(&dial(&pod, &[])?)
}

#[test]
fn the_programs_tell_what_they_do_when_asked() -> Result<()> {
    let scene = Scene::new()?;
    let pod = scene.lonely_pod()?;
    let mut daemon = Daemon::start_debugging(&scene.node)?;
    was_redirected(&dial(&pod, &[])?, &pod)?;
    eventually("the programs' line", SOON, || {
        let log = daemon.process().stderr();
        ensure!(log.contains(&format!("redirect {VIP}:443")), "{log}");
        Ok(())
    })
}

fn own_address(pod: &Pod<'_>) -> Result<String> {
    let list = output(&mut pod.command("ip", ["-o", "-4", "addr", "show", "dev", "eth0"]))?;
    let address = list
        .split_whitespace()
        .nth(3)
        .and_then(|cidr| cidr.split('/').next());
    Ok(address.context("the pod has an address")?.to_owned())
}

/// A road from the node itself to the VIP.
fn road(node: &Node) -> Result<()> {
    let via = holdfast_tests::node::CONTROL_PLANE;
    output(&mut node.command("ip", ["route", "add", VIP, "via", via])).map(drop)
}

/// The cgroup of a pod in the node's own network namespace.
fn host_network_pod(node: &Node, uid: &str) -> Result<std::path::PathBuf> {
    let container = node.kubepods().join(format!("pod{uid}/container"));
    std::fs::create_dir_all(&container)?;
    Ok(container)
}

fn remove_tree(folder: &std::path::Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    Ok(std::fs::remove_dir(folder)?)
}
