# Short names for the commands that are typed daily; each line works without just, too.

# List the recipes.
default:
    @just --list

# Everything that must hold before a change lands.
ci:
    bash .ci/run

# The whole test suite.
test:
    cargo test --workspace

# Types, lints and unit tests of one package: `just crate dataplane`.
crate NAME:
    cargo clippy -p {{NAME}} --all-targets -- -D warnings
    cargo test -p {{NAME}}

# One end-to-end behavior, by a part of its name: `just behaviour replies`.
behaviour NAME:
    cargo test -p e2e --test behaviours -- {{NAME}}

# One page of the documentation, executed, by a part of its path: `just page first-event`.
page NAME:
    HEADGATE_PAGE={{NAME}} cargo test -p e2e --test walkthroughs

# Rewrite the files that tests compare with the tree: deploy/crds, deploy/schema.json, docs/contract.md, docs/reference.
bless:
    HEADGATE_BLESS=1 cargo test -p e2e --test contract_table
    HEADGATE_BLESS=1 cargo test -p spec --lib crds
    HEADGATE_BLESS=1 cargo test -p headgate reference
    HEADGATE_BLESS=1 cargo test -p e2e --test schema --test field_pages

# A quick benchmark on loopback; `just bench --full` takes longer and rewrites docs/performance.md.
bench *ARGS:
    cargo run --profile dist -p e2e --bin bench -- {{ARGS}}
