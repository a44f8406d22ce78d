//! A socket buffer as a [`Packet`]: the only bounds checks there are.

use core::ptr;

use aya_ebpf::{Global, bindings::__sk_buff, programs::TcContext};
use aya_log_ebpf::debug;
use dataplane_common::{
    abi::{Addr, NextHop, TakenOutMark, taken_out_mark},
    decide::{Mark, Origin},
    headers::Header,
    packet::{Packet, Tunnel},
    reason::Reason,
};

use crate::{
    helpers::{self, OuterChecksum},
    room::{ENCAP_IPIP, ENCAP_L2_ETH, ENCAP_VXLAN, KEEP},
};

/// `PACKET_HOST` of `linux/if_packet.h`.
const PACKET_HOST: u32 = 0;

/// `BPF_F_ADJ_ROOM_DECAP_L4_UDP` of `linux/bpf.h`.
const DECAP_L4_UDP: u64 = 1 << 10;
/// `BPF_F_ADJ_ROOM_DECAP_IPXIP4` of `linux/bpf.h`.
const DECAP_IPXIP4: u64 = 1 << 11;

/// Whether the kernel knows [`ENCAP_L2_ETH`], without which drivers give up checksum and
/// segmentation offload and the kernel does both: [`abi::globals`], set by the loader. A constant
/// for the verifier, which drops the branch.
///
/// [`abi::globals`]: dataplane_common::abi::globals
#[unsafe(no_mangle)]
static KNOWS_INNER_ETHERNET: Global<u8> = Global::new(1);

/// Whether the kernel knows [`DECAP_L4_UDP`] and [`DECAP_IPXIP4`]: see [`Packet::forgets_tunnels`].
/// Set as the one above.
#[unsafe(no_mangle)]
static FORGETS_TUNNELS: Global<u8> = Global::new(1);

/// The program's packet.
pub struct SkbPacket {
    skb: *mut __sk_buff,
}

/// What the packet of `ctx` bears (`skb->tc_index`), or 0. It stays with a packet on its way through
/// the kernel, and no socket can set it.
#[inline(always)]
pub fn mark(ctx: &TcContext) -> u16 {
    helpers::mark(ctx.skb.skb)
}

impl SkbPacket {
    /// The packet of `ctx`, with its first `headers` bytes in reach, or all where it is shorter.
    /// They are pulled at once: pulling a part of a list of fragments breaks kernels before 6.16.
    #[inline(always)]
    pub fn new(ctx: &TcContext, headers: u32) -> Self {
        let packet = Self { skb: ctx.skb.skb };
        let wanted = packet.frame_length().min(headers);
        if packet.data() + wanted as usize > packet.data_end() {
            helpers::pull_data(packet.skb, wanted);
        }
        packet
    }

    /// The program's context.
    #[inline(always)]
    pub fn context(&self) -> *mut __sk_buff {
        self.skb
    }

    /// Index of the interface that the program sits on.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: `skb` is the program's own context, valid while it runs.
        unsafe { (*self.skb).ifindex }
    }

    /// Whether the kernel knows the link-layer address of a next hop.
    #[inline(always)]
    pub fn is_resolved(&self, next_hop: &NextHop) -> bool {
        helpers::is_neighbour_resolved(self.skb, next_hop.ifindex, next_hop.gateway)
    }

    /// See [`helpers::origin`].
    #[inline(always)]
    pub fn origin(&self) -> Origin {
        helpers::origin(self.skb)
    }

    /// See [`helpers::clone_redirect`].
    #[inline(always)]
    pub fn send_copy(&mut self, ifindex: u32) -> Result<(), Reason> {
        helpers::clone_redirect(self.skb, ifindex).map_err(|()| Reason::Rewrite)
    }

    /// See [`helpers::set_tunnel_key`].
    #[inline(always)]
    pub fn direct(
        &mut self,
        remote: Addr,
        vni: u32,
        tos: u8,
        checksum: OuterChecksum,
    ) -> Result<(), Reason> {
        helpers::set_tunnel_key(self.skb, remote, vni, tos, checksum).map_err(|()| Reason::Rewrite)
    }

    /// See [`mark`].
    #[inline(always)]
    pub fn mark(&self) -> u16 {
        helpers::mark(self.skb)
    }

    /// Has the packet, and what is made of it, bear `mark`.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // it has 16 bits
    pub fn set_mark(&mut self, mark: Mark) {
        // SAFETY: as in `ifindex`; the field may be written.
        unsafe { (*self.skb).tc_index = mark as u32 }
    }

    /// Makes room as [`Packet::encap_room`], in one try.
    ///
    /// # Errors
    ///
    /// The kernel's, such as [`helpers::ALREADY`]; the packet is as it was.
    #[inline(always)]
    pub fn enter(&mut self, tunnel: Tunnel) -> Result<(), i64> {
        let flags = match tunnel {
            Tunnel::Ipip => ENCAP_IPIP,
            Tunnel::Vxlan if KNOWS_INNER_ETHERNET.load() != 0 => ENCAP_VXLAN | ENCAP_L2_ETH,
            Tunnel::Vxlan => ENCAP_VXLAN,
        };
        helpers::adjust_room(self.skb, i32::from(tunnel.overhead()), flags)
    }

    /// Clears the firewall mark: the host's does not concern a pod.
    #[inline(always)]
    pub fn clear_mark(&mut self) {
        // SAFETY: as in `ifindex`; the field may be written.
        unsafe { (*self.skb).mark = 0 }
    }

    /// A refusal to change the room by `difference` is logged, at level debug: the counter does not
    /// say what the kernel said.
    #[inline(always)]
    fn refused(&self, difference: i32, error: i64) -> Reason {
        debug!(
            &TcContext::new(self.skb),
            "bpf_skb_adjust_room({}) of a packet of {} bytes on interface {}: error {}",
            difference,
            self.frame_length(),
            self.ifindex(),
            error
        );
        Reason::NoRoom
    }

    /// The address where the packet's metadata begins.
    #[inline(always)]
    fn metadata(&self) -> usize {
        // SAFETY: as in `ifindex`.
        unsafe { ptr::read_volatile(&raw const (*self.skb).data_meta) as usize }
    }

    /// The address where the packet begins. Volatile: LLVM would otherwise keep the 32 bits of the
    /// context's field, and the verifier refuse arithmetic on them.
    #[inline(always)]
    fn data(&self) -> usize {
        // SAFETY: as in `ifindex`.
        unsafe { ptr::read_volatile(&raw const (*self.skb).data) as usize }
    }

    /// The address where the bytes in reach end.
    #[inline(always)]
    fn data_end(&self) -> usize {
        // SAFETY: as in `ifindex`.
        unsafe { ptr::read_volatile(&raw const (*self.skb).data_end) as usize }
    }

    /// Where a `T` at `offset` is, if it ends within the bytes in reach.
    #[inline(always)]
    fn locate<T: Header>(&self, offset: usize) -> Option<usize> {
        let () = T::ALIGNMENT_IS_ONE;
        let start = self.data() + offset;
        (start + size_of::<T>() <= self.data_end()).then_some(start)
    }
}

impl Packet for SkbPacket {
    #[inline(always)]
    fn header<T: Header>(&self, offset: usize) -> Option<&T> {
        // SAFETY: in bounds, and a `Header` may lie anywhere; what would move the bytes needs
        // `&mut self` while the reference lives.
        self.locate::<T>(offset)
            .map(|address| unsafe { &*(address as *const T) })
    }

    #[inline(always)]
    fn header_mut<T: Header>(&mut self, offset: usize) -> Option<&mut T> {
        // SAFETY: as in `header`; the borrow is exclusive.
        self.locate::<T>(offset)
            .map(|address| unsafe { &mut *(address as *mut T) })
    }

    #[inline(always)]
    fn frame_length(&self) -> u32 {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.skb).len }
    }

    #[inline(always)]
    fn is_to_interface(&self) -> bool {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.skb).pkt_type == PACKET_HOST }
    }

    #[inline(always)]
    fn has_vlan_tag(&self) -> bool {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.skb).vlan_present != 0 }
    }

    #[inline(always)]
    fn gso_size(&self) -> u32 {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.skb).gso_size }
    }

    /// A segmentation-offloaded packet was either aggregated by GRO, which verified the checksums,
    /// or comes from this machine.
    #[inline(always)]
    fn is_checksum_verified(&self) -> bool {
        self.gso_size() != 0 || helpers::is_checksum_unnecessary(self.skb)
    }

    #[inline(always)]
    fn taken_out_of(&self) -> Option<Tunnel> {
        let start = self.metadata();
        if start + size_of::<TakenOutMark>() > self.data() {
            return None;
        }
        // SAFETY: in bounds; bytes may lie anywhere.
        let mark = unsafe { *(start as *const TakenOutMark) };
        [Tunnel::Ipip, Tunnel::Vxlan]
            .into_iter()
            .find(|tunnel| mark == taken_out_mark(*tunnel))
    }

    fn forgets_tunnels(&self) -> bool {
        FORGETS_TUNNELS.load() != 0
    }

    /// What the kernel takes to be in a tunnel already, it puts into none. To a single packet that
    /// makes no difference, once it is told of none.
    #[inline(always)]
    fn encap_room(&mut self, tunnel: Tunnel) -> Result<(), Reason> {
        let difference = i32::from(tunnel.overhead());
        self.enter(tunnel)
            .or_else(|error| match error {
                helpers::ALREADY if self.gso_size() == 0 => {
                    helpers::adjust_room(self.skb, difference, KEEP)
                }
                _ => Err(error),
            })
            .map_err(|error| match error {
                helpers::ALREADY => Reason::CutUp,
                _ => self.refused(difference, error),
            })
    }

    #[inline(always)]
    fn decap_room(&mut self, tunnel: Tunnel) -> Result<(), Reason> {
        let forget = match tunnel {
            _ if !self.forgets_tunnels() => 0,
            Tunnel::Ipip => DECAP_IPXIP4,
            Tunnel::Vxlan => DECAP_L4_UDP,
        };
        let difference = -i32::from(tunnel.overhead());
        helpers::adjust_room(self.skb, difference, KEEP | forget)
            .map_err(|error| self.refused(difference, error))?;
        if tunnel == Tunnel::Vxlan {
            helpers::drop_checksum_level(self.skb);
        }
        Ok(())
    }
}
