//! The client behind a connection in the host's own namespace: which cgroup its socket was made in, and so which pod.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, Nla as _};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::cgroup;
use crate::identity::PodUid;

/// `INET_DIAG_CGROUP_ID` of the kernel's `linux/inet_diag.h`, since 5.8.
const INET_DIAG_CGROUP_ID: u16 = 21;
/// One socket's answer is about 200 bytes.
const ANSWER_BYTES: usize = 4096;
/// The kernel answers while it takes the request; this only guards against waiting for ever.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(200);
/// Containers of hostNetwork pods whose pod is remembered: far more than a node runs.
const REMEMBERED: usize = 1024;

/// A cgroup's id is never reused and its path never changes, so what was found once stays true.
static PODS: LazyLock<Mutex<HashMap<u64, Option<PodUid>>>> = LazyLock::new(Mutex::default);

/// See [`super::pod_of_peer`].
pub(super) fn pod_of_peer(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<PodUid>> {
    let id = cgroup_of(peer, local)?;
    if let Some(known) = lock().get(&id) {
        return Ok(known.clone());
    }
    let mount = cgroup::find_mount().map_err(io::Error::other)?;
    let Some(folder) = cgroup::find_by_id(&mount, id) else {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the client's cgroup is gone",
        ));
    };
    let pod = cgroup::pod_of(&folder).map(|(uid, _)| uid);
    let mut pods = lock();
    if pods.len() >= REMEMBERED {
        pods.clear();
    }
    pods.insert(id, pod.clone());
    Ok(pod)
}

fn lock() -> std::sync::MutexGuard<'static, HashMap<u64, Option<PodUid>>> {
    PODS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The cgroup id of the socket whose own address is `source` and whose peer's is `destination`, in this namespace.
fn cgroup_of(source: SocketAddr, destination: SocketAddr) -> io::Result<u64> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let kind = SockType::Datagram;
    let diag = SockProtocol::NetlinkSockDiag;
    let fd = socket(AddressFamily::Netlink, kind, flags, diag)?;
    let timeout = TimeVal::new(0, i64::from(ANSWER_TIMEOUT.subsec_micros()));
    setsockopt(&fd, sockopt::ReceiveTimeout, &timeout)?;
    let kernel = NetlinkAddr::new(0, 0);
    let request = request(source, destination);
    sendto(fd.as_raw_fd(), &request, &kernel, MsgFlags::empty())?;
    let mut answer = [0; ANSWER_BYTES];
    let length = recv(fd.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    cgroup_id(answer.get(..length).unwrap_or_default())
}

fn request(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (source, destination) = (unmapped(source), unmapped(destination));
    let (family, mut socket_id) = match source {
        SocketAddr::V4(_) => (AF_INET, SocketId::new_v4()),
        SocketAddr::V6(_) => (AF_INET6, SocketId::new_v6()),
    };
    socket_id.source_address = source.ip();
    socket_id.source_port = source.port();
    socket_id.destination_address = destination.ip();
    socket_id.destination_port = destination.port();
    // INET_DIAG_NOCOOKIE: any socket of these addresses.
    socket_id.cookie = [0xff; 8];
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(
        header,
        NetlinkPayload::from(SockDiagMessage::InetRequest(InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::all(),
            socket_id,
        })),
    );
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// The kernel finds an AF_INET6 socket that speaks IPv4 by its IPv4 addresses.
fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(IpAddr::to_canonical(&address.ip()), address.port())
}

fn cgroup_id(answer: &[u8]) -> io::Result<u64> {
    let message = NetlinkMessage::<SockDiagMessage>::deserialize(answer)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    let response = match message.payload {
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => response,
        NetlinkPayload::Error(error) => return Err(error.to_io()),
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    let id = response.nlas.iter().find_map(id_of);
    id.ok_or_else(|| io::Error::other("the kernel named no cgroup for the client's socket"))
}

fn id_of(attribute: &Nla) -> Option<u64> {
    if attribute.kind() != INET_DIAG_CGROUP_ID {
        return None;
    }
    let mut value = [0; 8];
    if attribute.value_len() != value.len() {
        return None;
    }
    attribute.emit_value(&mut value);
    Some(u64::from_ne_bytes(value))
}
