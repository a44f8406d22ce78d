//! underpass: pod traffic beneath the host's network stack.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    dataplane_user::cli::run().await
}
