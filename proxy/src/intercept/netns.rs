//! One network namespace: which one it is, and a listener inside it.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};
use nix::sys::stat::Mode;

use super::programs::Tags;

/// Connections that may wait to be accepted, per namespace: a node's restart makes every client of a pod dial at once.
const BACKLOG: i32 = 1024;

/// A network namespace by device and inode of its file: the inode alone is reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NamespaceId {
    device: u64,
    inode: u64,
}

/// An open namespace. Holding it keeps the namespace alive.
#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) id: NamespaceId,
    file: File,
}

impl Namespace {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::of_file(File::open(path)?)
    }

    fn of_file(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            id: NamespaceId {
                device: metadata.dev(),
                inode: metadata.ino(),
            },
            file,
        })
    }

    /// Enters the namespace on a thread of its own, which ends there: no other thread is ever in a foreign namespace.
    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("netns".to_owned())
                .spawn_scoped(scope, || {
                    setns(&self.file, CloneFlags::CLONE_NEWNET)?;
                    Ok(work())
                })?
                .join()
                .map_err(|_| io::Error::other("the thread in the namespace panicked"))?
        })
    }

    /// A tagged listener on one loopback address, not accepting blockingly. The socket stays with Holdfast.
    pub(super) fn listen(&self, address: SocketAddr, tags: &mut Tags) -> io::Result<TcpListener> {
        self.inside(|| tagged_listener(address, tags))?
    }
}

/// The two addresses of a listener. Independent: a namespace may have no IPv6, or hold one port of the two itself.
pub(super) fn loopbacks(port: u16) -> [SocketAddr; 2] {
    [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    ]
    .map(|ip| SocketAddr::new(ip, port))
}

fn tagged_listener(address: SocketAddr, tags: &mut Tags) -> io::Result<TcpListener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None)?;
    // Connections of a Holdfast that was killed may still linger on the port.
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    // Tagged before it listens, so that the programs never see a listener of ours without its tag.
    tags.listener(fd.as_fd())?;
    listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(TcpListener::from(fd))
}

/// A process, held by its folder in /proc: what is read through it is never another process that got the same id.
pub(super) struct Process(OwnedFd);

impl Process {
    pub(super) fn open(pid: i32) -> io::Result<Self> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_PATH;
        let path = PathBuf::from(format!("/proc/{pid}"));
        Ok(Self(nix::fcntl::open(&path, flags, Mode::empty())?))
    }

    pub(super) fn namespace(&self) -> io::Result<Namespace> {
        Namespace::of_file(self.file("ns/net")?)
    }

    /// The paths of its cgroups, one per hierarchy, as `/proc/<pid>/cgroup` shows them.
    pub(super) fn cgroups(&self) -> io::Result<Vec<PathBuf>> {
        let text = io::read_to_string(self.file("cgroup")?)?;
        Ok(text
            .lines()
            .filter_map(|line| line.splitn(3, ':').nth(2))
            .map(PathBuf::from)
            .collect())
    }

    fn file(&self, name: &str) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        Ok(openat(&self.0, name, flags, Mode::empty())?.into())
    }
}
