//! A frame before it is a socket buffer, as a [`Packet`]: the bounds checks of XDP.

use core::ptr;

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use dataplane_common::{
    abi::{MAX_SNAP, TakenOutMark, taken_out_mark},
    headers::{ETHERNET_LEN, EthernetHeader, Header},
    monitor::Beginning,
    packet::{Packet, Tunnel},
    reason::Reason,
};

use crate::helpers;

/// The frame of an XDP program, all of it in one piece: the program does not ask for frames in
/// fragments, and drivers refuse it where the MTU would need them.
pub struct XdpFrame {
    xdp: *mut xdp_md,
}

impl XdpFrame {
    /// The frame of `ctx`.
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        Self::of(ctx.ctx)
    }

    /// The frame whose context this is, which a program has been given.
    #[inline(always)]
    pub fn of(context: *mut xdp_md) -> Self {
        Self { xdp: context }
    }

    /// The program's context.
    #[inline(always)]
    pub fn context(&self) -> *mut xdp_md {
        self.xdp
    }

    /// Index of the interface that the program sits on.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: as in `metadata`.
        unsafe { (*self.xdp).ingress_ifindex }
    }

    /// Copies the beginning of the frame, its Ethernet header and up to `most` bytes in all; returns how
    /// many. Byte by byte: a helper that copies any number came with Linux 5.18.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // 512
    pub fn copy(&self, to: &mut Beginning, most: u32) -> u32 {
        // A first byte alone the verifier would not see to be there.
        let (head, rest) = to.split_at_mut(ETHERNET_LEN);
        let Some(ethernet) = self.header::<[u8; ETHERNET_LEN]>(0) else {
            return 0;
        };
        head.copy_from_slice(ethernet);
        let most = most.min(MAX_SNAP as u32);
        for (offset, byte) in (ETHERNET_LEN..).zip(rest) {
            let Some([from]) = self.header::<[u8; 1]>(offset) else {
                break;
            };
            if offset >= most as usize {
                break;
            }
            *byte = *from;
        }
        // Not how often the loop was gone through: the verifier would follow each number by itself.
        self.frame_length().min(most)
    }

    /// Makes room for the mark in front of the frame, empty.
    ///
    /// # Errors
    ///
    /// [`Reason::NoMetadata`]: the driver has no room there, and the frame is as it was.
    #[inline(always)]
    pub fn reserve_mark(&mut self) -> Result<(), Reason> {
        helpers::reserve_metadata(self.xdp, size_of::<TakenOutMark>())
            .map_err(|()| Reason::NoMetadata)?;
        self.write_mark([0; 8])
    }

    /// Says that the frame was taken out of `tunnel`.
    #[inline(always)]
    pub fn mark_taken_out(&mut self, tunnel: Tunnel) -> Result<(), Reason> {
        self.write_mark(taken_out_mark(tunnel))
    }

    #[inline(always)]
    fn write_mark(&mut self, mark: TakenOutMark) -> Result<(), Reason> {
        let start = self.metadata();
        if start + size_of::<TakenOutMark>() > self.data() {
            return Err(Reason::Rewrite);
        }
        // SAFETY: in bounds; bytes may lie anywhere.
        unsafe { *(start as *mut TakenOutMark) = mark };
        Ok(())
    }

    /// Moves the beginning of the frame by `difference` bytes, with its Ethernet header.
    #[inline(always)]
    fn move_start(&mut self, difference: i32) -> Result<(), Reason> {
        let ethernet: EthernetHeader = *self.header(0).ok_or(Reason::NoRoom)?;
        helpers::adjust_head(self.xdp, difference).map_err(|()| Reason::NoRoom)?;
        *self.header_mut(0).ok_or(Reason::Rewrite)? = ethernet;
        Ok(())
    }

    /// The address where the metadata begins. Volatile: see [`crate::packet`].
    #[inline(always)]
    fn metadata(&self) -> usize {
        // SAFETY: `xdp` is the program's own context, valid while it runs.
        unsafe { ptr::read_volatile(&raw const (*self.xdp).data_meta) as usize }
    }

    /// The address where the frame begins.
    #[inline(always)]
    fn data(&self) -> usize {
        // SAFETY: as in `metadata`.
        unsafe { ptr::read_volatile(&raw const (*self.xdp).data) as usize }
    }

    /// The address where the frame ends.
    #[inline(always)]
    fn data_end(&self) -> usize {
        // SAFETY: as in `metadata`.
        unsafe { ptr::read_volatile(&raw const (*self.xdp).data_end) as usize }
    }

    /// Where a `T` at `offset` is, if it ends within the frame.
    #[inline(always)]
    fn locate<T: Header>(&self, offset: usize) -> Option<usize> {
        let () = T::ALIGNMENT_IS_ONE;
        let start = self.data() + offset;
        (start + size_of::<T>() <= self.data_end()).then_some(start)
    }
}

impl Packet for XdpFrame {
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
    #[allow(clippy::cast_possible_truncation)] // of one page
    fn frame_length(&self) -> u32 {
        (self.data_end() - self.data()) as u32
    }

    /// Not to many. That it is for another station is found out later, when the kernel compares the
    /// address that the frame keeps: `from_uplink` leaves it to the stack, which drops it.
    #[inline(always)]
    fn is_to_interface(&self) -> bool {
        const GROUP: u8 = 1;
        let ethernet: Option<&EthernetHeader> = self.header(0);
        ethernet.is_some_and(|ethernet| ethernet.destination[0] & GROUP == 0)
    }

    /// A tag is among the bytes, or, where the device has taken it off, not to be seen yet:
    /// `from_uplink` looks for it.
    #[inline(always)]
    fn has_vlan_tag(&self) -> bool {
        false
    }

    #[inline(always)]
    fn gso_size(&self) -> u32 {
        0
    }

    /// What the device has found out is not to be seen yet.
    #[inline(always)]
    fn is_checksum_verified(&self) -> bool {
        false
    }

    #[inline(always)]
    fn taken_out_of(&self) -> Option<Tunnel> {
        None
    }

    /// What the frame becomes has never been in the tunnel.
    #[inline(always)]
    fn forgets_tunnels(&self) -> bool {
        true
    }

    #[inline(always)]
    fn encap_room(&mut self, tunnel: Tunnel) -> Result<(), Reason> {
        self.move_start(-i32::from(tunnel.overhead()))
    }

    #[inline(always)]
    fn decap_room(&mut self, tunnel: Tunnel) -> Result<(), Reason> {
        self.move_start(i32::from(tunnel.overhead()))
    }
}
