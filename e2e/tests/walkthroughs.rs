//! The README, the tutorials and the guides do what they say: their commands are run in the order printed, as printed, and their
//! output is compared with the output shown.
//!
//! CONTRIBUTING.md ("Pages that are executed") describes the marks. `HEADGATE_PAGE=PART` runs the pages whose path has this part.

#[path = "walkthroughs/page.rs"]
mod page;
#[path = "walkthroughs/shown.rs"]
mod shown;
#[path = "walkthroughs/terminals.rs"]
mod terminals;

use std::{env, fs, sync::Arc};

use e2e::tree::{Source, text_files};
use page::{Page, Step};
use terminals::Terminals;
use tokio::{sync::Semaphore, task::JoinSet};

/// Each page runs a debug build of the gateway and mostly waits: more at once would only make each slower on two cores.
const AT_ONCE: usize = 3;

/// Pages whose every block is executed or says why not.
fn is_executed(path: &str) -> bool {
    let folders = ["docs/tutorials/", "docs/guides/"];
    path == "README.md" || (path.ends_with(".md") && folders.iter().any(|folder| path.starts_with(folder)))
}

fn pages() -> Vec<Page> {
    let part = env::var("HEADGATE_PAGE").unwrap_or_default();
    let executed = |source: &Source| is_executed(&source.path) && source.path.contains(&part);
    let sources = text_files().into_iter().filter(executed);
    sources.map(|source| Page::read(&source.path, &source.text)).collect()
}

#[test]
fn every_block_of_an_executed_page_is_executed_or_says_why_not() {
    let faults: Vec<String> = pages().into_iter().flat_map(|page| page.faults).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[tokio::test]
async fn pages_do_what_they_say() {
    let (mut running, turns) = (JoinSet::new(), Arc::new(Semaphore::new(AT_ONCE)));
    for page in pages() {
        let turns = turns.clone();
        running.spawn(async move {
            let _turn = turns.acquire().await.expect("never closed");
            walk(page).await
        });
    }
    let failures: Vec<String> = running.join_all().await.into_iter().filter_map(Result::err).collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
}

/// Follows a page to its end, or to the first step that goes another way.
async fn walk(page: Page) -> Result<(), String> {
    if page.steps.is_empty() {
        return Ok(());
    }
    let mut terminals = Terminals::open(page.needs_nats()).await;
    for (line, step) in &page.steps {
        if let Err(why) = take(&mut terminals, step).await {
            return Err(format!("{}:{line}: {why}{}", page.path, terminals.outputs()));
        }
    }
    Ok(())
}

async fn take(terminals: &mut Terminals, step: &Step) -> Result<(), String> {
    match step {
        Step::Save { file, text } => {
            let path = terminals.folder().join(file);
            let folder = path.parent().expect("a file is in a folder");
            let saved = fs::create_dir_all(folder).and_then(|()| fs::write(&path, text));
            saved.map_err(|error| format!("{file}: {error}"))
        }
        Step::Run(command) => terminals.run(command).await,
        Step::Await { command, shown } => terminals.shows(command, shown).await,
        Step::Stop { command } => terminals.stop(command).await,
    }
}
