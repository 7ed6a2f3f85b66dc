//! The harness itself, against the real API server and without Holdfast.

use std::time::Duration;

use anyhow::{Result, ensure};
use holdfast_tests::{ApiServer, Link, Node, Pod, eventually, fixtures};

/// Python and kubectl take a second to start on a quiet machine.
const CLIENT: Duration = Duration::from_secs(40);

#[test]
fn a_pod_with_a_road_of_its_own_reads_the_api_server_and_a_cut_is_a_black_hole() -> Result<()> {
    let node = Node::new()?;
    let mut api = ApiServer::start(&node)?;
    fixtures::apply(&api)?;
    let admitted = api.admit(fixtures::SHOP, "web-1", fixtures::WEB)?;
    let pod = Pod::start(&node, &admitted)?;
    let lonely = pod.run(pod.get(fixtures::CONFIGMAPS))?;
    ensure!(
        lonely.exit == 7 && lonely.total < Duration::from_secs(1),
        "without a road a connect fails at once: {lonely:?}"
    );
    let pod = pod.with_road()?;
    let list = pod
        .run(pod.get(fixtures::CONFIGMAPS))?
        .expect(200)?
        .json()?;
    ensure!(
        list["items"]
            .as_array()
            .is_some_and(|items| items.len() == fixtures::MENUS),
        "{list}"
    );
    let reached = |node: &Node| -> Result<i64> {
        let curl = api.direct("/livez").at_most(Duration::from_millis(700));
        Ok(curl
            .run(node.folder(), |program, args| node.command(program, args))?
            .exit)
    };
    ensure!(reached(&node)? == 0, "the node reaches the control plane");
    let cut = Link::cut(&node)?;
    ensure!(reached(&node)? == 28, "a cut link is a black hole");
    cut.restore()?;
    ensure!(reached(&node)? == 0, "a restored link carries again");
    api.kill()?;
    let refused = pod.run(pod.get(fixtures::CONFIGMAPS))?;
    ensure!(refused.exit == 7, "{refused:?}");
    api.restart()?;
    eventually("the pod to read again", Duration::from_secs(10), || {
        pod.run(pod.get(fixtures::CONFIGMAPS))?.expect(200)
    })?;
    Ok(())
}

#[test]
fn real_in_cluster_clients_run_unmodified_in_a_pod() -> Result<()> {
    let node = Node::new()?;
    let api = ApiServer::start(&node)?;
    fixtures::apply(&api)?;
    let pod =
        Pod::start(&node, &api.admit(fixtures::SHOP, "web-1", fixtures::WEB)?)?.with_road()?;
    let mark = api.audit().mark()?;
    let informer = pod.informer("informer", &["-namespace", fixtures::SHOP])?;
    informer.synced(CLIENT)?;
    let python = pod.python("list", &["list", "--namespace", fixtures::SHOP])?;
    ensure!(python.wait(CLIENT)?.success(), "{}", python.tail());
    let kubectl = pod.kubectl(&["get", "configmaps"])?.output()?;
    ensure!(
        String::from_utf8_lossy(&kubectl.stdout).contains("menu-0"),
        "{kubectl:?}"
    );
    let entries = api.audit().since(mark)?;
    let ours = |verb: &str| {
        entries
            .iter()
            .filter(|entry| entry.verb == verb && entry.resource == "configmaps")
            .count()
    };
    ensure!(
        ours("list") == 2 && ours("watch") == 1,
        "Python and kubectl list, a current informer watches: {entries:#?}"
    );
    Ok(())
}
