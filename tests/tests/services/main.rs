//! Services, as kube-proxy has nodes translate their addresses: whatever underpass carries, clients
//! find what they find without it.

mod carried;
mod load;
mod outcomes;
mod scene;
mod tracked;
