//! `NetworkPolicy` as Felix writes it holds for what underpass carries.

mod allowed;
mod denied;
mod probe;
mod withdrawn;
