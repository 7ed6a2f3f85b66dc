//! The programs on `connect()` and `getpeername()`, as little as the verifier makes one write.
//!
//! A connect to a known destination is turned to loopback if, and only if, Holdfast is alive (its heartbeat is fresh) and
//! a listener that Holdfast itself tagged stands in the caller's network namespace. In every other case the connection
//! goes where the application asked. A program here never returns 0: that would be an EPERM for the application.

#![no_std]
#![no_main]

mod connect;
mod maps;

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use connect::{original, redirect4, redirect6};

/// The verdict of every program: let the (perhaps rewritten) call go on.
const PROCEED: i32 = 1;

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    redirect4(&ctx);
    PROCEED
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    redirect6(&ctx);
    PROCEED
}

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    if let Some(original) = original(&ctx) {
        let raw = ctx.sock_addr;
        unsafe {
            (*raw).user_ip4 = original.ip[0];
            (*raw).user_port = original.port;
        }
    }
    PROCEED
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    if let Some(original) = original(&ctx) {
        connect::set6(&ctx, original.ip, original.port);
    }
    PROCEED
}

/// The kernel asks for it: helpers may be limited to programs under a licence compatible with the GPL.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // The verifier refuses a program from which this can be reached.
    loop {}
}
