//! The pages of docs/reasons, as they were when this gateway was built.

use axum::{
    Extension,
    extract::{Path, State},
    response::Response,
};
use maud::html;
use spec::Reason;

use super::{
    Console, Trouble,
    guard::Visitor,
    layout::{self, Head},
    markdown,
};

pub(super) async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path(word): Path<String>,
) -> Result<Response, Trouble> {
    let reason = Reason::find(&word).ok_or_else(|| Trouble::not_found(format!("there is no reason {word:?}")))?;
    let body = html! { article.prose { (markdown::render(reason.page())) } };
    Ok(layout::page(&console, &visitor, &Head::new(reason.as_str()), &body))
}
