//! Files that are sent: images, and other versions of the system.

use std::io::IsTerminal as _;
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kurma_client::{Client, Image, Upgrade, Upgraded};

use crate::arguments;
use crate::problem::Problem;

/// Sends an image, with a bar where somebody looks on.
pub(crate) async fn upload(client: &Client, file: &Path) -> Result<Image, Problem> {
    let bar = bar(file);
    let shown = bar.clone();
    let image = client.upload(file, move |sent| shown.set_position(sent)).await;
    bar.finish_and_clear();
    Ok(image?)
}

/// Sends another version of the system.
pub(crate) async fn upgrade(
    client: &Client,
    asked: &arguments::Upgrade,
) -> Result<Upgraded, Problem> {
    let mut how = Upgrade::default();
    (how.force, how.kexec, how.stay) = (asked.force, asked.kexec, asked.no_restart);
    how.append.clone_from(&asked.append);
    let bar = bar(&asked.file);
    let shown = bar.clone();
    let done = client.upgrade(&asked.file, &how, move |sent| shown.set_position(sent)).await;
    bar.finish_and_clear();
    Ok(done?)
}

fn bar(file: &Path) -> ProgressBar {
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
    bar
}
