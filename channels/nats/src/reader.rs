//! Looking into a stream without leaving anything there: a page through a consumer that lives as long as the page.

use std::time::{Duration, SystemTime};

use async_nats::{
    datetime,
    jetstream::{
        Message,
        consumer::{AckPolicy, Consumer, DeliverPolicy, pull},
    },
};
use channel_broker::PAGE_BYTES;
use futures_util::StreamExt;

use crate::connection::Server;

pub(crate) type Fault = Box<dyn std::error::Error + Send + Sync>;

/// A consumer that its reader forgot is removed by the server after this.
const INACTIVE_MAX: Duration = Duration::from_secs(30);

/// Messages asked for at once; a page of large ones ends sooner.
const FETCH_MAX: usize = 256;

/// Calls `see` for messages from `from` on (of a subject, where one is given), until it says `false` or there are no more.
pub(crate) async fn page(
    server: &Server,
    stream: &str,
    from: DeliverPolicy,
    subject: Option<&str>,
    max: usize,
    mut see: impl FnMut(&Message) -> bool,
) -> Result<(), Fault> {
    let config = pull::Config {
        deliver_policy: from,
        ack_policy: AckPolicy::None,
        filter_subject: subject.unwrap_or_default().to_owned(),
        inactive_threshold: INACTIVE_MAX,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    };
    let consumer: Consumer<pull::Config> = server.context.create_consumer_on_stream(config, stream).await?;
    let name = consumer.cached_info().name.clone();
    let seen = see_all(server, &consumer, max, &mut see).await;
    let _ = server.context.delete_consumer_from_stream(name, stream).await;
    seen
}

async fn see_all(
    server: &Server,
    consumer: &Consumer<pull::Config>,
    max: usize,
    see: &mut impl FnMut(&Message) -> bool,
) -> Result<(), Fault> {
    let mut left = max;
    while left > 0 {
        let asked = left.min(FETCH_MAX);
        let fetch = consumer.fetch().max_messages(asked);
        // A message that does not fit would be answered by none.
        let mut messages = fetch.max_bytes(page_bytes(server)).messages().await?;
        let mut came = 0;
        while let Some(message) = messages.next().await {
            came += 1;
            if !see(&message?) {
                return Ok(());
            }
        }
        if came == 0 {
            return Ok(());
        }
        left -= came.min(left);
    }
    Ok(())
}

/// Bytes asked for at once: a page, or one message of the largest size.
pub(crate) fn page_bytes(server: &Server) -> usize {
    PAGE_BYTES.max(server.client.max_payload() * 2)
}

/// The sequence of the first message stored at or after a time.
pub(crate) async fn sequence_at(server: &Server, stream: &str, time: SystemTime) -> Result<Option<u64>, Fault> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let start_time = datetime::from_nanos(i128::try_from(since.as_nanos()).unwrap_or(i128::MAX))?;
    let mut first = None;
    let see = |message: &Message| {
        first = message.info().ok().map(|info| info.stream_sequence);
        false
    };
    page(server, stream, DeliverPolicy::ByStartTime { start_time }, None, 1, see).await?;
    Ok(first)
}

/// Where to begin so that the first message is the one with this sequence, or the next that is there.
pub(crate) fn from_sequence(sequence: u64) -> DeliverPolicy {
    DeliverPolicy::ByStartSequence {
        start_sequence: sequence.max(1),
    }
}
