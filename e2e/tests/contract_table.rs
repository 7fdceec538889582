//! docs/contract.md is true: each line of the contract names the tests that prove it, and none is left out.

use std::{collections::BTreeSet, env, fs};

use e2e::{
    binary::workspace,
    contract::{LATER, page, proofs, sections},
    tree,
};

#[test]
fn docs_contract_md_says_what_the_tests_prove() {
    let wanted = page(&sections(), &proofs());
    let path = workspace().join("docs/contract.md");
    if env::var_os("HEADGATE_BLESS").is_some() {
        fs::write(&path, &wanted).expect("docs/contract.md is written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/contract.md differs from the tests; write it again with: HEADGATE_BLESS=1 cargo test -p e2e --test contract_table"
    );
}

#[test]
fn every_line_of_the_contract_has_a_test_or_a_reason() {
    let proven: BTreeSet<String> = proofs().into_iter().map(|proof| proof.id).collect();
    let later: BTreeSet<&str> = LATER.iter().map(|(id, _)| *id).collect();
    let unproven: Vec<String> = sections()
        .into_iter()
        .flat_map(|section| section.lines)
        .map(|line| line.id)
        .filter(|id| !proven.contains(id) && !later.contains(id.as_str()))
        .collect();
    assert!(
        unproven.is_empty(),
        "no test proves {unproven:?}: write one with `/// Proves: ID`"
    );
    let superfluous: Vec<_> = later.iter().filter(|id| proven.contains(**id)).collect();
    assert!(
        superfluous.is_empty(),
        "{superfluous:?} are proven by now: remove them from contract::LATER"
    );
}

#[test]
fn every_proof_names_a_line_of_the_contract() {
    let known: BTreeSet<String> = sections()
        .into_iter()
        .flat_map(|section| section.lines)
        .map(|line| line.id)
        .collect();
    let unknown: Vec<String> = proofs()
        .into_iter()
        .filter(|proof| !known.contains(&proof.id))
        .map(|proof| format!("{} in {}", proof.id, proof.path))
        .collect();
    assert!(unknown.is_empty(), "no such line in the contract: {unknown:#?}");
}

#[test]
fn proofs_are_written_in_the_one_form_that_is_read() {
    let odd: Vec<String> = tree::rust_files()
        .iter()
        .filter(|source| source.path != "e2e/src/contract.rs" && source.path != "e2e/tests/contract_table.rs")
        .flat_map(|source| {
            let odd = source.text.lines().filter(|line| {
                let line = line.trim();
                line.starts_with("//") && line.contains("Proves") && !line.starts_with("/// Proves: ")
            });
            odd.map(|line| format!("{}: {line}", source.path)).collect::<Vec<_>>()
        })
        .collect();
    assert!(
        odd.is_empty(),
        "write `/// Proves: ID, ID` on a line of its own: {odd:#?}"
    );
}
