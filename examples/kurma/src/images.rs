//! Images that are sent.

use std::io::IsTerminal as _;
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kurma_client::{Client, Image};

use crate::problem::Problem;

/// Sends an image, with a bar where somebody looks on.
pub(crate) async fn upload(client: &Client, file: &Path) -> Result<Image, Problem> {
    let len = std::fs::metadata(file).map(|about| about.len()).unwrap_or_default();
    let bar = ProgressBar::new(len);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) =
        ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}")
    {
        bar.set_style(style);
    }
    let shown = bar.clone();
    let image = client.upload(file, move |sent| shown.set_position(sent)).await;
    bar.finish_and_clear();
    Ok(image?)
}
