//! The one decision: is this connect for a destination, and does a listener of Holdfast's stand ready for it?

use core::mem::size_of;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        bpf_sock, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as Tuple4,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as Tuple6,
    },
    helpers::generated::{
        bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_netns_cookie,
        bpf_ktime_get_ns, bpf_sk_lookup_tcp, bpf_sk_release, bpf_sk_storage_get,
    },
    programs::SockAddrContext,
};
use aya_log_ebpf::debug;
use holdfast_common::{
    COUNTER_MISSES, COUNTER_REDIRECTS, COUNTER_STALE, Control, Destination4, Destination6,
    MISS_ABSENT, MISS_FOREIGN, Miss, Original, TAG_DIAL, TAG_LISTENER,
};

use crate::maps::{CONTROL, DESTINATIONS4, DESTINATIONS6, MISSES, ORIGINAL, TAG, count};

const IPPROTO_TCP: u32 = 6;
/// `TCP_LISTEN` of the kernel's `net/tcp_states.h`.
const TCP_LISTEN: u32 = 10;
/// `BPF_F_CURRENT_NETNS`: look in the namespace of the socket that connects.
const CURRENT_NETNS: u64 = -1_i64 as u64;

const LOOPBACK4: u32 = u32::from_be_bytes([127, 0, 0, 1]).to_be();
const LOOPBACK6: [u32; 4] = [0, 0, 0, 1_u32.to_be()];
/// The third word of `::ffff:a.b.c.d`.
const MAPPED: u32 = 0xffff_u32.to_be();

#[inline(always)]
pub fn redirect4(ctx: &SockAddrContext) {
    let (ip, port) = unsafe { ((*ctx.sock_addr).user_ip4, (*ctx.sock_addr).user_port) };
    let known = is_tcp(ctx) && unsafe { DESTINATIONS4.get(Destination4 { ip, port }) }.is_some();
    match known.then(|| listener(ctx, find4)).flatten() {
        Some(to) if remember(ctx, [ip, 0, 0, 0], port) => unsafe {
            (*ctx.sock_addr).user_ip4 = LOOPBACK4;
            (*ctx.sock_addr).user_port = to;
            debug!(ctx, "redirect {:i}:{}", u32::from_be(ip), host_port(port));
        },
        _ => forget(ctx),
    }
}

#[inline(always)]
pub fn redirect6(ctx: &SockAddrContext) {
    let (ip, port) = (ip6(ctx), unsafe { (*ctx.sock_addr).user_port });
    let mapped = ip[0] == 0 && ip[1] == 0 && ip[2] == MAPPED;
    let (target, loopback) = if !is_tcp(ctx) {
        (None, LOOPBACK6)
    } else if mapped {
        // A Java client, for one: an AF_INET6 socket that speaks IPv4. Its listener is the IPv4 one.
        let key = Destination4 { ip: ip[3], port };
        let known = unsafe { DESTINATIONS4.get(key) }.is_some();
        (
            known.then(|| listener(ctx, find4)).flatten(),
            [0, 0, MAPPED, LOOPBACK4],
        )
    } else {
        let known = unsafe { DESTINATIONS6.get(Destination6 { ip, port }) }.is_some();
        (known.then(|| listener(ctx, find6)).flatten(), LOOPBACK6)
    };
    match target {
        Some(to) if remember(ctx, ip, port) => {
            set6(ctx, loopback, to);
            debug!(ctx, "redirect an IPv6 socket, port {}", host_port(port));
        }
        _ => forget(ctx),
    }
}

/// What a redirected socket meant to reach.
#[inline(always)]
pub fn original(ctx: &SockAddrContext) -> Option<Original> {
    unsafe { ORIGINAL.get_ptr_mut(ctx).as_ref() }.copied()
}

/// Word by word: passed as an array, LLVM forms a pointer into the context, and the verifier answers
/// "dereference of modified ctx ptr".
#[inline(always)]
pub fn set6(ctx: &SockAddrContext, ip: [u32; 4], port: u32) {
    let raw = ctx.sock_addr;
    unsafe {
        (&raw mut (*raw).user_ip6[0]).write_volatile(ip[0]);
        (&raw mut (*raw).user_ip6[1]).write_volatile(ip[1]);
        (&raw mut (*raw).user_ip6[2]).write_volatile(ip[2]);
        (&raw mut (*raw).user_ip6[3]).write_volatile(ip[3]);
        (*raw).user_port = port;
    }
}

#[inline(always)]
fn ip6(ctx: &SockAddrContext) -> [u32; 4] {
    let raw = ctx.sock_addr;
    unsafe {
        [
            (&raw const (*raw).user_ip6[0]).read_volatile(),
            (&raw const (*raw).user_ip6[1]).read_volatile(),
            (&raw const (*raw).user_ip6[2]).read_volatile(),
            (&raw const (*raw).user_ip6[3]).read_volatile(),
        ]
    }
}

#[inline(always)]
fn is_tcp(ctx: &SockAddrContext) -> bool {
    unsafe { (*ctx.sock_addr).protocol == IPPROTO_TCP }
}

#[inline(always)]
fn host_port(port: u32) -> u16 {
    u16::from_be(port as u16)
}

#[inline(always)]
fn socket(ctx: &SockAddrContext) -> *mut bpf_sock {
    unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk }
}

/// The port to go to, if this connection may be redirected and a listener of ours waits in its namespace.
#[inline(always)]
fn listener(
    ctx: &SockAddrContext,
    find: impl FnOnce(&SockAddrContext, u16) -> *mut bpf_sock,
) -> Option<u32> {
    let control = CONTROL.get(0)?;
    if is_own(ctx, control) {
        return None;
    }
    if !is_alive(control) {
        count(COUNTER_STALE);
        return None;
    }
    let found = find(ctx, control.port as u16);
    if found.is_null() {
        miss(ctx, MISS_ABSENT);
        return None;
    }
    let ours = unsafe { (*found).state == TCP_LISTEN } && tag(found) == Some(TAG_LISTENER);
    unsafe { bpf_sk_release(found.cast()) };
    if ours {
        Some(control.port)
    } else {
        miss(ctx, MISS_FOREIGN);
        None
    }
}

/// Holdfast's own dials; and sockets bound to a device, for which loopback is out of reach.
#[inline(always)]
fn is_own(ctx: &SockAddrContext, control: &Control) -> bool {
    let sk = socket(ctx);
    tag(sk) == Some(TAG_DIAL)
        || unsafe { (*sk).bound_dev_if } != 0
        || (control.own_cgroup != 0 && control.own_cgroup == unsafe { bpf_get_current_cgroup_id() })
}

#[inline(always)]
fn is_alive(control: &Control) -> bool {
    let now = unsafe { bpf_ktime_get_ns() };
    control.beat_ns != 0 && now.saturating_sub(control.beat_ns) <= control.max_age_ns
}

#[inline(always)]
fn tag(sk: *mut bpf_sock) -> Option<u32> {
    let tag = unsafe {
        bpf_sk_storage_get(
            (&raw const TAG).cast_mut().cast(),
            sk.cast(),
            core::ptr::null_mut(),
            0,
        )
    }
    .cast::<u32>();
    unsafe { tag.as_ref() }.copied()
}

#[inline(always)]
fn find4(ctx: &SockAddrContext, dport: u16) -> *mut bpf_sock {
    let mut tuple = Tuple4 {
        saddr: 0,
        daddr: LOOPBACK4,
        sport: 0,
        dport,
    };
    lookup(ctx, (&raw mut tuple).cast(), size_of::<Tuple4>() as u32)
}

#[inline(always)]
fn find6(ctx: &SockAddrContext, dport: u16) -> *mut bpf_sock {
    let mut tuple = Tuple6 {
        saddr: [0; 4],
        daddr: LOOPBACK6,
        sport: 0,
        dport,
    };
    lookup(ctx, (&raw mut tuple).cast(), size_of::<Tuple6>() as u32)
}

#[inline(always)]
fn lookup(ctx: &SockAddrContext, tuple: *mut bpf_sock_tuple, size: u32) -> *mut bpf_sock {
    unsafe { bpf_sk_lookup_tcp(ctx.as_ptr(), tuple, size, CURRENT_NETNS, 0) }
}

/// Keeps the address for getpeername. `false`: no memory for it, so the connection is better left alone.
#[inline(always)]
fn remember(ctx: &SockAddrContext, ip: [u32; 4], port: u32) -> bool {
    let mut value = Original { ip, port };
    let Some(stored) = (unsafe {
        ORIGINAL
            .get_or_insert_ptr_mut(ctx, Some(&mut value))
            .as_mut()
    }) else {
        return false;
    };
    // The socket may have been redirected before (connect to AF_UNSPEC, then again): then `value` was not stored.
    *stored = value;
    count(COUNTER_REDIRECTS);
    true
}

/// A socket that was redirected before and now goes direct must not show its old peer.
#[inline(always)]
fn forget(ctx: &SockAddrContext) {
    // Nothing stored is the common case, and no error.
    let _ = unsafe { ORIGINAL.delete(socket(ctx)) };
}

#[inline(always)]
fn miss(ctx: &SockAddrContext, reason: u32) {
    count(COUNTER_MISSES);
    debug!(ctx, "direct: no listener of ours, reason {}", reason);
    if let Some(mut event) = MISSES.reserve::<Miss>(0) {
        event.write(Miss {
            netns_cookie: unsafe { bpf_get_netns_cookie(ctx.as_ptr()) },
            cgroup_id: unsafe { bpf_get_current_cgroup_id() },
            tgid: unsafe { (bpf_get_current_pid_tgid() >> 32) as u32 },
            reason,
        });
        event.submit(0);
    }
}
