//! One declaration for each part of a document. [`document_struct!`] and [`document_enum!`] make three things of it: the type,
//! the shape that documents are checked against and the CRDs are made of, and how the type is read from a checked document.
//!
//! ```text
//! document_struct! {
//!     /// How a channel is kept.
//!     pub struct Log: Default {
//!         /// Copies of each event; default 3.
//!         copies: u32 [integer(1, 5)] = 3,
//!         /// The URL of its monitor.
//!         monitor_url ("monitorURL"): Option<Url>,
//!         ..common: CommonFields,
//!     } with { rules: rules() }
//! }
//! ```
//!
//! - The comment of a field is its description in the CRDs. A required field that is missing is reported with it.
//! - The name in documents is the field's in camel case, or the text in parentheses.
//! - The brackets narrow the shape of the type: bounds, the form of a text.
//! - `= VALUE` is the value of a field that is absent. Without it [`FieldType::absent`] decides; a type that has no such value
//!   makes the field required.
//! - `..common` adds the fields of another struct at the same level.
//! - `: Default` stands at a struct whose fields may all be absent, and which may be absent itself.
//! - `with` sets what the object has beside its fields ([`Object`](super::Object)): `secret`, `open`, rules.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde_json::Value as Json;
use url::Url;

use super::{Form, Shape, forms, integer, list, map, settings};
use crate::{
    duration,
    tree::{Node, Value},
};

/// A type that a field of a document may have.
pub(crate) trait FieldType: Sized {
    /// The shape of its values, where a field declares no narrower one.
    fn shape() -> Shape;

    /// The value of a field that is absent. `None`: such a field is required.
    fn absent() -> Option<Self> {
        None
    }

    /// Reads a value that fits the shape.
    ///
    /// # Errors
    /// The value does not fit the type, which only a shape that is too wide lets happen.
    fn read(node: &Node) -> Result<Self, String>;
}

macro_rules! document_struct {
    (
        $(#[doc = $about:literal])+
        $vis:vis struct $name:ident $(: $default_trait:ident)? {
            $(
                $(#[doc = $doc:literal])+
                $field:ident $(($written:literal))? : $type:ty $([$shape:expr])? $(= $default:expr)?,
            )*
            $(..$common:ident: $common_type:ty,)?
        } $(with { $($option:ident: $value:expr),* $(,)? })?
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)*
            $(#[doc = "The fields that it shares with others."] pub $common: $common_type,)?
        }

        impl $name {
            pub(crate) fn schema() -> $crate::schema::Object {
                #[allow(unused_mut, reason = "changed where fields are shared")]
                let mut object = $crate::schema::Object {
                    fields: vec![$($crate::schema::Field {
                        name: document_struct!(@name $field $($written)?),
                        shape: document_struct!(@shape $type $(, $shape)?),
                        required: document_struct!(@absent $type $(, $default)?).is_none(),
                        describe: concat!($($doc),+).trim(),
                    }),*],
                    describe: concat!($($about),+).trim(),
                    $($($option: $value,)*)?
                    ..$crate::schema::Object::default()
                };
                $(
                    let common = <$common_type>::schema();
                    object.fields.extend(common.fields);
                    object.rules.extend(common.rules);
                )?
                object
            }
        }

        impl $crate::schema::FieldType for $name {
            fn shape() -> $crate::schema::Shape {
                $crate::schema::Shape::Object(Self::schema())
            }

            fn absent() -> Option<Self> {
                document_struct!(@whole $($default_trait)?)
            }

            fn read(node: &$crate::tree::Node) -> Result<Self, String> {
                Ok(Self {
                    $($field: $crate::schema::declare::entry(
                        node,
                        document_struct!(@name $field $($written)?),
                        || document_struct!(@absent $type $(, $default)?),
                    )?,)*
                    $($common: <$common_type as $crate::schema::FieldType>::read(node)?,)?
                })
            }
        }

        document_struct!(@default $($default_trait)? ; $name { $($field: $type $(, $default)?;)* });
    };

    (@name $field:ident $written:literal) => { $written };
    (@name $field:ident) => {{
        const CAMEL: &([u8; $crate::schema::declare::NAME_MAX], usize) =
            &$crate::schema::declare::camel_case(stringify!($field));
        const NAME: &str = match std::str::from_utf8(CAMEL.0.split_at(CAMEL.1).0) {
            Ok(name) => name,
            Err(_) => "",
        };
        NAME
    }};
    (@shape $type:ty) => { <$type as $crate::schema::FieldType>::shape() };
    (@shape $type:ty, $shape:expr) => { $shape };
    (@absent $type:ty) => { <$type as $crate::schema::FieldType>::absent() };
    (@absent $type:ty, $default:expr) => { Some::<$type>($default) };
    (@whole) => { None };
    (@whole Default) => { Some(Self::default()) };
    (@value $type:ty) => { <$type as Default>::default() };
    (@value $type:ty, $default:expr) => { $default };
    (@default ; $($rest:tt)*) => {};
    (@default Default ; $name:ident { $($field:ident: $type:ty $(, $default:expr)?;)* }) => {
        impl Default for $name {
            fn default() -> Self {
                Self { $($field: document_struct!(@value $type $(, $default)?),)* }
            }
        }
    };
}

/// Declares an enum by its words in documents; a second word of a variant is an older spelling.
macro_rules! document_enum {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $($(#[$variant_meta:meta])* $variant:ident = $word:literal $(| $older:literal)?,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $crate::schema::FieldType for $name {
            fn shape() -> $crate::schema::Shape {
                $crate::schema::Shape::Text($crate::schema::Form::OneOf(&[$($word,)+ $($($older,)?)+]))
            }

            fn read(node: &$crate::tree::Node) -> Result<Self, String> {
                match $crate::schema::declare::text(node)? {
                    $($word $(| $older)? => Ok(Self::$variant),)+
                    other => Err(format!("`{other}` is no {}", stringify!($name))),
                }
            }
        }
    };
}

pub(crate) use {document_enum, document_struct};

/// Reads the field `name` of a map, or takes what its absence means.
pub(crate) fn entry<T: FieldType>(node: &Node, name: &str, absent: impl FnOnce() -> Option<T>) -> Result<T, String> {
    match node.get(name) {
        Some(value) => T::read(value).map_err(|why| format!("{name}: {why}")),
        None => absent().ok_or_else(|| format!("{name} is missing")),
    }
}

pub(crate) fn text(node: &Node) -> Result<&str, String> {
    node.text().ok_or_else(|| misfit(node, "text"))
}

pub(crate) fn misfit(node: &Node, expected: &str) -> String {
    format!("expected {expected}, found {}", node.kind())
}

/// The longest name of a field.
pub(crate) const NAME_MAX: usize = 32;

/// Bytes of `backoffDelay` for `backoff_delay`, and how many.
pub(crate) const fn camel_case(name: &str) -> ([u8; NAME_MAX], usize) {
    let (bytes, mut camel, mut at, mut length) = (name.as_bytes(), [0; NAME_MAX], 0, 0);
    while at < bytes.len() {
        if bytes[at] != b'_' {
            let starts_word = at > 0 && bytes[at - 1] == b'_';
            camel[length] = if starts_word {
                bytes[at].to_ascii_uppercase()
            } else {
                bytes[at]
            };
            length += 1;
        }
        at += 1;
    }
    (camel, length)
}

impl<T: FieldType> FieldType for Option<T> {
    fn shape() -> Shape {
        T::shape()
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn read(node: &Node) -> Result<Self, String> {
        T::read(node).map(Some)
    }
}

impl<T: FieldType> FieldType for Vec<T> {
    fn shape() -> Shape {
        list(T::shape())
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn read(node: &Node) -> Result<Self, String> {
        match &node.value {
            Value::List(items) => items.iter().map(T::read).collect(),
            _ => Err(misfit(node, "a list")),
        }
    }
}

/// A field that documents may have and the gateway does not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread;

/// How a type is checked, what its absence means, and how it is read.
macro_rules! field_type {
    ($type:ty, $shape:expr, $absent:expr, |$node:ident| $read:expr) => {
        impl $crate::schema::FieldType for $type {
            fn shape() -> $crate::schema::Shape {
                $shape
            }

            fn absent() -> Option<Self> {
                $absent
            }

            fn read($node: &$crate::tree::Node) -> Result<Self, String> {
                $read
            }
        }
    };
}

pub(crate) use field_type;

field_type! { Unread, Shape::Any, Some(Self), |_node| Ok(Self) }
field_type! { String, Shape::Text(Form::Free), None, |node| text(node).map(str::to_owned) }
field_type! { Url, Shape::Text(Form::HttpUrl), None, |node| forms::http_url(text(node)?) }
field_type! { Timestamp, Shape::Text(Form::Timestamp), None, |node| forms::timestamp(text(node)?) }
field_type! { Duration, Shape::Text(Form::Duration), None, |node| duration::parse(text(node)?) }
field_type!(bool, Shape::Boolean, Some(false), |node| match node.value {
    Value::Boolean(value) => Ok(value),
    _ => Err(misfit(node, "true or false")),
});
// A map whose fields are described elsewhere.
field_type!(Json, settings(), None, |node| Ok(node.to_json_without_nulls()));
field_type!(BTreeMap<String, String>, map(String::shape()), Some(Self::new()), |node| {
    let Value::Map(entries) = &node.value else {
        return Err(misfit(node, "a map"));
    };
    let pairs = entries.iter().map(|(key, value)| Ok((key.name.clone(), text(value)?.to_owned())));
    pairs.collect()
});

/// Numbers of things, or of bytes, which may have a unit.
macro_rules! numbers {
    ($($type:ty),+) => {$(
        field_type!($type, integer(0, i64::try_from(Self::MAX).unwrap_or(i64::MAX)), None, |node| {
            let number = forms::quantity_of(node)?;
            number.try_into().map_err(|_| format!("{number} is too large"))
        });
    )+};
}

numbers!(u16, u32, u64, usize, i32);

#[cfg(test)]
mod tests;
