//! Programs that `go` builds from modules of other people, once each: go.sum checks what is fetched.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    cache::{self, Entry},
    process::run,
};

/// A program to build.
pub(crate) struct Program<'a> {
    /// The file's name, and the cache entry's.
    pub(crate) name: &'a str,
    /// Folder with go.mod and go.sum, from this package's own.
    pub(crate) module: &'a str,
    /// As `go build` takes it. What begins with `./` is of ours, in the module's folder.
    pub(crate) package: &'a str,
    /// For the linker, as `-X` takes it: `package.variable=value`.
    pub(crate) facts: &'a [String],
    /// The message when it cannot be built.
    pub(crate) hint: &'a str,
}

impl Program<'_> {
    /// Where it is; built when it is not there yet.
    ///
    /// # Panics
    /// When it cannot be built.
    pub(crate) fn built(&self) -> PathBuf {
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.module);
        let mut recipe = vec![module.join("go.mod"), module.join("go.sum")];
        if let Some(folder) = self.package.strip_prefix("./") {
            recipe.extend(sources(&module.join(folder)));
        }
        let entry = Entry::of(self.name, &recipe);
        if let Some(draft) = &entry.draft {
            // Programs of one module have most of their packages in common: the second finds them compiled.
            let _alone = cache::alone("go");
            let mut linking = "-s -w".to_owned();
            for fact in self.facts {
                linking += &format!(" -X {fact}");
            }
            let mut build = Command::new("go");
            build
                .current_dir(&module)
                .env("CGO_ENABLED", "0")
                .env("GOFLAGS", "-mod=readonly");
            build
                .args(["build", "-trimpath", "-ldflags", &linking, "-o"])
                .arg(draft.join(self.name))
                .arg(self.package);
            run(&mut build, self.hint);
        }
        entry.publish().join(self.name)
    }
}

/// The Go files of a folder, in the order of their names.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("an entry of the folder").path());
    let mut sources: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "go"))
        .collect();
    sources.sort();
    sources
}
