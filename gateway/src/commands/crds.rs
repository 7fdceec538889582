//! `headgate crds`

use crate::output;

pub(super) fn crds() {
    output::exact(spec::crds().trim_end());
}
