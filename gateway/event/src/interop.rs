//! To and from the event of the official Rust SDK (`cloudevents-sdk`).
//!
//! Attributes travel as a JSON event without data, the one form both sides read by the same specification; data travels as
//! bytes beside it. The SDK keeps a time as an instant and JSON data as a tree: their notation is what may differ afterwards.

use bytes::Bytes;
use cloudevents::Data;

use crate::{Event, http_form::DecodeError};

/// The attribute of 0.3 that says, in binary mode, that the data is base64. The SDK takes it for part of the JSON form and drops it.
const CONTENT_ENCODING: &str = "datacontentencoding";

impl TryFrom<&cloudevents::Event> for Event {
    type Error = DecodeError;

    /// # Errors
    /// An event that CloudEvents does not allow: the SDK checks fewer rules.
    fn try_from(sdk: &cloudevents::Event) -> Result<Self, DecodeError> {
        let data = match sdk.data() {
            None => Bytes::new(),
            Some(Data::Binary(bytes)) => Bytes::copy_from_slice(bytes),
            Some(Data::String(text)) => Bytes::copy_from_slice(text.as_bytes()),
            Some(Data::Json(value)) => value.to_string().into(),
        };
        let mut bare = sdk.clone();
        let (content_type, schema, _) = bare.take_data();
        cloudevents::AttributesWriter::set_datacontenttype(&mut bare, content_type);
        cloudevents::AttributesWriter::set_dataschema(&mut bare, schema);
        let document = serde_json::to_vec(&bare).map_err(|error| DecodeError::Invalid(error.to_string()))?;
        let Self { attributes, .. } = Self::from_json(&document.into())?;
        Ok(Self { attributes, data })
    }
}

impl TryFrom<&Event> for cloudevents::Event {
    type Error = serde_json::Error;

    /// # Errors
    /// What the SDK cannot hold: a `dataschema` that is a relative reference.
    fn try_from(event: &Event) -> Result<Self, serde_json::Error> {
        let bare = Event {
            attributes: event.attributes.clone(),
            data: Bytes::new(),
        };
        let mut sdk: Self = serde_json::from_slice(&bare.to_json())?;
        if let Some(encoding) = event.text(CONTENT_ENCODING) {
            sdk.set_extension(CONTENT_ENCODING, encoding);
        }
        if !event.data.is_empty() {
            sdk.set_data_unchecked(Data::Binary(event.data.to_vec()));
        }
        Ok(sdk)
    }
}
