//! The CloudEvents SQL expression language, version 1.0.0: text becomes an [`Expression`] once, which is evaluated on events.
//!
//! ```
//! let expression: cesql::Expression = "EXISTS tier AND tier IN ('gold', 'silver')".parse().unwrap();
//! let event = event::Event::builder("1", "/shop", "order.created").set("tier", "gold").finish().unwrap();
//! assert_eq!(cesql::evaluate(&expression, &event).value, cesql::Value::Boolean(true));
//! ```
//!
//! Evaluation is total: it ends, never panics, and yields a value in any case, together with the error if there was one.
//! Its time is bounded by a [`Budget`] of steps: beyond it the evaluation ends with an error. [`Filter`] is what a
//! subscription has: every dialect of the Subscriptions API becomes an expression, so there is one evaluator.
//!
//! Numbers in comments, such as 3.4.3, are sections of the specification. Functions of users' own are not offered, and an
//! event's data cannot be addressed, which the specification excludes.

mod budget;
mod check;
mod error;
mod evaluate;
mod explain;
mod filter;
mod functions;
mod operator;
mod parse;
mod pattern;
mod print;
mod tree;
mod value;

pub use budget::{Budget, STEPS_MAX};
pub use check::{Finding, Trouble};
pub use error::{ErrorKind, EvaluationError, ParseError, Span};
pub use evaluate::{Evaluation, STRING_BYTES_MAX, evaluate};
pub use explain::{Explanation, explain};
pub use filter::{Filter, FilterError};
pub use functions::Function;
pub use operator::{Arithmetic, Comparison, Logic};
pub use parse::SOURCE_BYTES_MAX;
pub use pattern::{InvalidPattern, Pattern, SEGMENT_CHARS_MAX};
pub use tree::{Attribute, DEPTH_MAX, Expression, Kind, Node, TooDeep};
pub use value::{Type, Value};
