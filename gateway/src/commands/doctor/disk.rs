//! The disk of the data folder: whether it can be written, what is free, and how long a sync takes.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

use super::{Finding, Status};
use crate::Failure;

/// As large as a small batch of events.
const WRITE_BYTES: usize = 4096;

/// Enough for a median; on a slow disk a second or two.
const SYNCS: usize = 32;

/// A publisher waits for a sync; beyond this the disk and not the network is what it waits for.
const SLOW: Duration = Duration::from_millis(20);

/// Free below this share of the disk, in percent, is a warning: the gateway refuses events when the disk is full.
const FREE_MIN_PERCENT: u64 = 10;

pub(super) async fn check(data: PathBuf) -> Result<Vec<Finding>, Failure> {
    let measured = tokio::task::spawn_blocking(move || examine(&data)).await;
    measured.map_err(|error| Failure::Internal(error.into()))
}

fn examine(data: &Path) -> Vec<Finding> {
    let object = format!("data folder {}", data.display());
    // A folder that is not there yet will be made where its parent is.
    let folder = data
        .ancestors()
        .find(|folder| folder.is_dir() || folder.as_os_str().is_empty());
    let folder = match folder {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let syncs = match measure(folder) {
        Ok(syncs) => syncs,
        Err(error) => {
            let message = format!("a file in {} cannot be written and synced: {error}", folder.display());
            let fix = "give the gateway's user a folder that it may write to, with --data";
            return vec![Finding::new("disk sync", object, Status::Failed, message, fix)];
        }
    };
    vec![sync(&object, &syncs), space(&object, folder)]
}

/// The time of each sync, shortest first.
fn measure(folder: &Path) -> io::Result<Vec<Duration>> {
    let mut file: File = tempfile::tempfile_in(folder)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&[0; WRITE_BYTES])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

fn sync(object: &str, times: &[Duration]) -> Finding {
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let longest = times.last().copied().unwrap_or_default();
    let message = format!(
        "a sync takes {:.1} ms (median of {}), the longest took {:.1} ms",
        median.as_secs_f64() * 1e3,
        times.len(),
        longest.as_secs_f64() * 1e3
    );
    if median <= SLOW {
        return Finding::ok("disk sync", object, message);
    }
    let fix =
        "publishers of embedded channels wait for it with each batch: use a local disk, not a network file system";
    Finding::new("disk sync", object, Status::Warning, message, fix)
}

fn space(object: &str, folder: &Path) -> Finding {
    let stat = match rustix::fs::statvfs(folder) {
        Ok(stat) => stat,
        Err(error) => {
            let message = format!("free space cannot be read: {error}");
            return Finding::new("disk space", object, Status::Skipped, message, "");
        }
    };
    let (free, total) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
    super::running::space(object, free, total)
}

/// Whether so much free space is little.
pub(super) fn is_little(free: u64, total: u64) -> bool {
    free < total / 100 * FREE_MIN_PERCENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_disk_is_a_warning_and_a_folder_that_cannot_be_written_a_failure() {
        let millis = |each: &[u64]| each.iter().copied().map(Duration::from_millis).collect::<Vec<_>>();
        assert_eq!(sync("disk", &millis(&[1, 2, 300])).status, Status::Ok);
        let slow = sync("disk", &millis(&[10, 30, 31]));
        assert_eq!(slow.status, Status::Warning);
        assert!(slow.message.contains("30.0 ms"), "{}", slow.message);
        assert!(measure(Path::new("/proc")).is_err());
    }
}
