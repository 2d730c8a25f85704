//! The Storage queue service with the official Rust SDK, which knows signatures only as part of a
//! URL: `queue-rust <URL of a queue that does not exist, signed for the account>`. Ends with an error
//! at the first answer that is not as the SDK expects it.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use azure_core::http::{StatusCode, Url};
use azure_storage_queue::QueueClient;
use azure_storage_queue::models::{
    QueueClientGetPropertiesResultHeaders as _, QueueClientPeekMessagesOptions,
    QueueClientReceiveMessagesOptions, QueueClientSendMessageOptions,
    QueueClientUpdateMessageOptions, QueueMessage,
};

/// A message comes back after one second; nobody waits longer than this for it.
const PATIENCE: Duration = Duration::from_secs(20);

const TEXT: &str = "eyJuIjogMX0= <&> \u{e9}";

type Outcome = Result<(), Box<dyn Error>>;

fn message(text: &str) -> QueueMessage {
    QueueMessage { message_text: Some(text.to_owned()) }
}

fn check(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(what.into()) }
}

#[tokio::main]
async fn main() -> Outcome {
    let url = std::env::args().nth(1).ok_or("a URL is wanted")?;
    let queue = QueueClient::new(Url::parse(&url)?, None, None)?;
    check(!queue.exists().await?, "it exists before it is created")?;
    queue.create(None).await?;
    check(queue.exists().await?, "it does not exist")?;

    queue.set_metadata(&HashMap::from([("made".to_owned(), "here".to_owned())]), None).await?;
    let properties = queue.get_properties(None).await?;
    check(properties.metadata()?.get("made").is_some_and(|v| v == "here"), "metadata are lost")?;

    life_of_a_message(&queue).await?;

    for _ in 0..3 {
        queue.send_message(message("x").try_into()?, None).await?;
    }
    let two = QueueClientPeekMessagesOptions { number_of_messages: Some(2), ..Default::default() };
    let peeked = queue.peek_messages(Some(two)).await?.into_model()?.items.unwrap_or_default();
    check(peeked.len() == 2, "not two were peeked")?;
    queue.clear(None).await?;
    let left = queue.peek_messages(None).await?.into_model()?.items.unwrap_or_default();
    check(left.is_empty(), "something is left after a clear")?;
    queue.delete(None).await?;
    check(!queue.exists().await?, "it exists after it was deleted")
}

async fn life_of_a_message(queue: &QueueClient) -> Outcome {
    let options = QueueClientSendMessageOptions {
        message_time_to_live: Some(60),
        visibility_timeout: Some(0),
        ..Default::default()
    };
    queue.send_message(message(TEXT).try_into()?, Some(options)).await?;
    let taken = take(queue).await?;
    check(taken.message_text.as_deref() == Some(TEXT), "the text is another one")?;
    check(taken.dequeue_count == Some(1), "the first delivery is not counted as one")?;
    let (id, receipt) = (taken.message_id.ok_or("no id")?, taken.pop_receipt.ok_or("no receipt")?);

    let options = QueueClientUpdateMessageOptions {
        queue_message: Some(message("second").try_into()?),
        ..Default::default()
    };
    queue.update_message(&id, &receipt, 1, Some(options)).await?;
    let stale = queue.delete_message(&id, &receipt, None).await;
    let status = stale.err().and_then(|error| error.http_status());
    let refused = matches!(status, Some(StatusCode::BadRequest | StatusCode::NotFound));
    check(refused, "a receipt is good after an update")?;

    let again = take(queue).await?;
    check(again.message_text.as_deref() == Some("second"), "the update is lost")?;
    check(again.dequeue_count == Some(2), "the second delivery is not counted")?;
    let receipt = again.pop_receipt.ok_or("no receipt")?;
    queue.delete_message(&id, &receipt, None).await?;
    let gone = queue.delete_message(&id, &receipt, None).await;
    let status = gone.err().and_then(|error| error.http_status());
    check(status == Some(StatusCode::NotFound), "a message can be deleted twice")
}

/// The next message, once it is visible.
async fn take(
    queue: &QueueClient,
) -> Result<azure_storage_queue::models::ReceivedMessage, Box<dyn Error>> {
    let attempt = async {
        loop {
            let options = QueueClientReceiveMessagesOptions {
                number_of_messages: Some(1),
                visibility_timeout: Some(30),
                ..Default::default()
            };
            let received = queue.receive_messages(Some(options)).await?.into_model()?;
            if let Some(message) = received.items.unwrap_or_default().into_iter().next() {
                return Ok(message);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, attempt).await.map_err(|_| "no message came")?
}
