//! What one declaration makes.

use super::*;
use crate::tree::parse;

document_struct! {
    /// A struct with each kind of field.
    struct Sample {
        /// The name.
        #[doc = " It is required."]
        object_name: String,
        /// Copies; default 3.
        copies: u32 [integer(1, 5)] = 3,
        /// Its monitor.
        monitor_url ("monitorURL"): Option<Url>,
        ..common: Common,
    } with { secret: true }
}

document_struct! {
    /// A struct that may be absent.
    struct Common: Default {
        /// Any number.
        port: Option<u16>,
    }
}

document_enum! {
    enum Speed { Fast = "fast" | "Fast", Slow = "slow", }
}

fn read<T: FieldType>(text: &str) -> Result<T, String> {
    match parse(text, 0, 1) {
        Ok(Some(node)) => T::read(&node),
        _ => Err("no document".to_owned()),
    }
}

#[test]
fn a_struct_is_described_and_read_from_one_declaration() {
    let object = Sample::schema();
    let fields = object.fields.iter();
    let fields: Vec<_> = fields
        .map(|field| (field.name, field.required, field.describe))
        .collect();
    assert_eq!(
        fields,
        [
            ("objectName", true, "The name. It is required."),
            ("copies", false, "Copies; default 3."),
            ("monitorURL", false, "Its monitor."),
            ("port", false, "Any number."),
        ]
    );
    assert!(object.secret && Sample::absent().is_none() && Common::absent() == Some(Common::default()));
    let sample: Result<Sample, _> = read("{objectName: a, port: 5, monitorURL:}");
    let expected = Sample {
        object_name: "a".to_owned(),
        copies: 3,
        monitor_url: None,
        common: Common { port: Some(5) },
    };
    assert_eq!(sample, Ok(expected));
    assert_eq!(read::<Sample>("{copies: 4}"), Err("objectName is missing".to_owned()));
    assert_eq!(
        read::<Sample>("{objectName: a, port: 70000}"),
        Err("port: 70000 is too large".to_owned())
    );
}

#[test]
fn an_enum_is_read_in_both_spellings() {
    assert_eq!(read("fast"), Ok(Speed::Fast));
    assert_eq!(read("Fast"), Ok(Speed::Fast));
    assert_eq!(read::<Speed>("fst"), Err("`fst` is no Speed".to_owned()));
    let Shape::Text(Form::OneOf(words)) = Speed::shape() else {
        panic!("words")
    };
    assert_eq!(words, ["fast", "slow", "Fast"]);
}
