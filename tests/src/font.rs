//! The letters of charts: on a machine without fonts, too, pictures look the same.

use anyhow::{Result, anyhow};
use epaint_default_fonts::UBUNTU_LIGHT;
use plotters::style::{FontStyle, register_font};

/// What charts call it.
pub const FONT: &str = "sans-serif";

/// Makes the font known, before anything is drawn.
pub fn register() -> Result<()> {
    register_font(FONT, FontStyle::Normal, UBUNTU_LIGHT)
        .map_err(|_| anyhow!("the font is not understood"))
}
