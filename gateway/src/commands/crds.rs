//! `headgate crds`

use crate::output;

pub(super) fn crds() {
    output::text(&spec::crds());
}
