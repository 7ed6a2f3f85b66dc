//! What the redirect needs of the machine. Each thing missing is one line that says what to do.

use std::fs;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::InterceptError;

/// The first kernel that has everything the programs use; getpeername hooks are 5.8, Debian 11 is 5.10.
const KERNEL: (u32, u32) = (5, 10);
/// The first kernel that accounts maps to the memory cgroup instead of RLIMIT_MEMLOCK.
const KERNEL_MEMCG: (u32, u32) = (5, 11);

/// Bits of the kernel's `linux/capability.h`.
const NET_ADMIN: Capability = Capability(12, "CAP_NET_ADMIN", "the programs cannot be attached");
const SYS_PTRACE: Capability = Capability(
    19,
    "CAP_SYS_PTRACE",
    "the network namespaces of other users' processes cannot be opened",
);
const SYS_ADMIN: Capability = Capability(
    21,
    "CAP_SYS_ADMIN",
    "the network namespaces of pods cannot be entered",
);

struct Capability(u32, &'static str, &'static str);

/// Everything that is missing, most basic first.
pub(super) fn missing() -> Vec<InterceptError> {
    let release = nix::sys::utsname::uname().map_or_else(
        |_| String::new(),
        |name| name.release().to_string_lossy().into_owned(),
    );
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut missing = Vec::new();
    missing.extend(old_kernel(&release));
    missing.extend(missing_capabilities(&status));
    missing.extend(super::cgroup::find_mount().err());
    missing
}

fn old_kernel(release: &str) -> Option<InterceptError> {
    (version(release)? < KERNEL).then(|| InterceptError::Missing {
        what: format!("kernel {release} is older than {}.{}", KERNEL.0, KERNEL.1),
        remedy: "run a newer kernel, or set intercept.enabled: false and point clients to `listen`"
            .to_owned(),
    })
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some((major, minor))
}

fn missing_capabilities(status: &str) -> Vec<InterceptError> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    // Unreadable: let the kernel say what it refuses.
    let Some(effective) = effective else {
        return Vec::new();
    };
    [NET_ADMIN, SYS_ADMIN, SYS_PTRACE]
        .into_iter()
        .filter(|Capability(bit, ..)| effective & (1 << bit) == 0)
        .map(|Capability(_, name, consequence)| InterceptError::Missing {
            what: format!("{name} is missing: {consequence}"),
            remedy: format!(
                "add {name} to the capabilities of the container or unit, or set intercept.enabled: false"
            ),
        })
        .collect()
}

/// Two descriptors per namespace beside every connection: the soft limit of a shell (1024) is soon too low. Old kernels
/// count maps against RLIMIT_MEMLOCK. Both are best effort: without them fewer namespaces fit, and that is reported then.
pub(super) fn raise_limits() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let release = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    if version(&release).is_some_and(|version| version < KERNEL_MEMCG) {
        let unlimited = nix::sys::resource::RLIM_INFINITY;
        if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, unlimited, unlimited) {
            tracing::warn!(%error, "cannot raise the limit of locked memory; add CAP_SYS_RESOURCE");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_before_5_10_are_refused_by_name() {
        for (release, refused) in [
            ("4.18.0-553.el8.x86_64", true),
            ("5.4.0-1", true),
            ("5.10.0-35-cloud-amd64", false),
            ("6.18.44", false),
            ("7.0-rc1", false),
            ("odd", false),
        ] {
            assert_eq!(old_kernel(release).is_some(), refused, "{release}");
        }
    }

    #[test]
    fn each_missing_capability_is_one_line_with_its_remedy() {
        let all = "Name:\tx\nCapEff:\t000001ffffffffff\n";
        assert!(missing_capabilities(all).is_empty());
        let none = missing_capabilities("CapEff:\t0000000000000000\n");
        let lines: Vec<String> = none.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().any(|line| line.contains("add CAP_SYS_PTRACE")));
        assert!(lines.iter().all(|line| !line.contains('\n')));
    }
}
