//! Serves on a free port, for a try by hand.
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let queues = vec!["declared".to_owned(), "declared-poison".to_owned()];
    let server =
        queue::Server::bind(queue::Options { queues, ..Default::default() }).await.unwrap();
    std::fs::write(&args[1], format!("{{\"address\": \"{}\"}}", server.local_addr())).unwrap();
    server.run(CancellationToken::new()).await.unwrap();
}
