//! dataplane-user
