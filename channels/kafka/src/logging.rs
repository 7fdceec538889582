//! librdkafka's own log, in ours. It repeats itself while a broker is away, several times a second and in its own words, so its
//! lines are for those who look for them (`--log info,librdkafka=debug`). What matters is said by [`crate::client::Health`] once an
//! outage, and by the errors that calls give.

use rdkafka::config::RDKafkaLogLevel;

pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, message);
        }
        RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning
        | RDKafkaLogLevel::Notice
        | RDKafkaLogLevel::Info
        | RDKafkaLogLevel::Debug => {
            tracing::debug!(target: "librdkafka", facility, message);
        }
    }
}
