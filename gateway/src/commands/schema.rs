//! `headgate schema`

use crate::output;

pub(super) fn schema(kind: Option<spec::Kind>) {
    output::exact(&format!("{:#}", spec::json_schema(kind)));
}
