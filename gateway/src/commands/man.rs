//! `headgate man`: the manual pages, made of what `--help` says.

use std::{fs, path::Path};

use crate::{Failure, args, output};

pub(super) fn man(folder: &Path) -> Result<(), Failure> {
    let written = fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(args::command(), folder));
    written.map_err(|error| {
        Failure::Wrong(format!(
            "{}: the manual pages cannot be written: {error}",
            folder.display()
        ))
    })?;
    output::note(&format!("try: man {}", folder.join("headgate.1").display()));
    Ok(())
}
