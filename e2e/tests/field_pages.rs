//! docs/reference/documents has every field of every kind, as `headgate schema` describes it.

use std::{collections::BTreeSet, env, fs};

use e2e::{
    binary::workspace,
    cli,
    field_pages::{FOLDER, pages},
};

#[tokio::test]
async fn the_pages_of_the_kinds_are_what_the_schema_says() {
    let schema = cli::run(&["schema"]).await.exits(0).json();
    let (folder, expected) = (workspace().join(FOLDER), pages(&schema));
    if env::var_os("HEADGATE_BLESS").is_some() {
        fs::create_dir_all(&folder).expect("a folder");
        for (name, text) in &expected {
            fs::write(folder.join(name), text).expect("a page is written");
        }
    }
    let again = "write the pages again with: HEADGATE_BLESS=1 cargo test -p e2e --test field_pages";
    for (name, text) in &expected {
        let found = fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(found == *text, "{FOLDER}/{name} differs from the schema; {again}");
    }
    let found: BTreeSet<String> = fs::read_dir(&folder)
        .expect("a folder of pages")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    let expected: BTreeSet<String> = expected.into_keys().collect();
    assert_eq!(found, expected, "a page a kind; {again}");
}
