//! What the kernel counts of packets that programs hand to a pod.

use aya::Btf;
use aya_obj::btf::BtfKind;

/// Whether a pod's interface counts what `bpf_redirect_peer` hands to it.
///
/// It does since "bpf: Fix dev's rx stats for `bpf_redirect_peer` traffic" (6.7, and the stable kernels
/// that took it over), whose series has given interfaces a kind of statistics: that is looked for in
/// the kernel's own description of its types.
#[must_use]
pub fn redirected_is_counted() -> bool {
    Btf::from_sys_fs().is_ok_and(|types| {
        let kind = types.id_by_type_name_kind("netdev_stat_type", BtfKind::Enum);
        kind.is_ok()
    })
}
