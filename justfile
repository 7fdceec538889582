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

# One end-to-end behaviour, by a part of its name: `just behaviour replies`.
behaviour NAME:
    cargo test -p e2e --test behaviours -- {{NAME}}

# Rewrite the files that tests compare with the tree (docs/contract.md).
bless:
    HEADGATE_BLESS=1 cargo test -p e2e --test contract_table

# A quick benchmark on loopback; `just bench --full` takes longer and rewrites docs/performance.md.
bench *ARGS:
    cargo run --release -p e2e --bin bench -- {{ARGS}}
