//! Brokers that vanish without a word, that lie, and that speak other versions.

use bateau_client::{Client, ConnectError, ErrorKind, Record};
use bateau_testing::{Api, TestBroker};
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::UdpSocket;

type Outcome = Result<(), Box<dyn Error>>;

/// Passes datagrams on between one client and a broker, unless it is cut.
struct Relay {
    url: String,
    is_cut: Arc<AtomicBool>,
}

impl Relay {
    async fn to(broker: &TestBroker) -> Result<Self, Box<dyn Error>> {
        let url = broker.native_url().ok_or("the door is on")?;
        let (place, pin) = url.trim_start_matches("quic://").split_once('?').ok_or("a pin")?;
        let remote: SocketAddr = place.parse()?;
        let inside = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
        let outside = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
        let url = format!("quic://{}?{pin}", inside.local_addr()?);
        let is_cut = Arc::new(AtomicBool::new(false));
        let client: Arc<std::sync::Mutex<Option<SocketAddr>>> = Arc::default();
        tokio::spawn({
            let (inside, outside) = (Arc::clone(&inside), Arc::clone(&outside));
            let (is_cut, client) = (Arc::clone(&is_cut), Arc::clone(&client));
            async move {
                let mut buffer = vec![0; 65_536];
                while let Ok((length, from)) = inside.recv_from(&mut buffer).await {
                    *client.lock().expect("nobody panics here") = Some(from);
                    if !is_cut.load(Ordering::Relaxed) {
                        let _ = outside.send_to(&buffer[..length], remote).await;
                    }
                }
            }
        });
        tokio::spawn({
            let is_cut = Arc::clone(&is_cut);
            async move {
                let mut buffer = vec![0; 65_536];
                while let Ok((length, _)) = outside.recv_from(&mut buffer).await {
                    let to = *client.lock().expect("nobody panics here");
                    if let (Some(to), false) = (to, is_cut.load(Ordering::Relaxed)) {
                        let _ = inside.send_to(&buffer[..length], to).await;
                    }
                }
            }
        });
        Ok(Self { url, is_cut })
    }

    fn cut(&self, on: bool) {
        self.is_cut.store(on, Ordering::Relaxed);
    }
}

#[bateau_testing::test]
async fn a_broker_that_vanished_without_a_word_is_found_again(broker: TestBroker) -> Outcome {
    broker.seed_topic("orders", 1).await?;
    let relay = Relay::to(&broker).await?;
    let builder = Client::builder().address(&relay.url).silence(Duration::from_millis(300));
    let client = builder.connect().await?;
    let producer = client.producer("orders");
    producer.send("0").await?;
    let mut reader = client.reader().topics(["orders"]).start().await?;
    assert_eq!(reader.try_next().await?.ok_or("it ended")?.offset, 0);
    // What a kill -9 looks like from here: nobody says good-bye.
    relay.cut(true);
    let sending = producer.send("1");
    broker.restart().await?;
    relay.cut(false);
    let ack = tokio::time::timeout(Duration::from_secs(15), sending).await??;
    assert_eq!(ack.offset, 1);
    let delivery = tokio::time::timeout(Duration::from_secs(15), reader.try_next()).await??;
    assert_eq!(delivery.ok_or("it ended")?.offset, 1);
    Ok(())
}

#[bateau_testing::test]
async fn a_broker_that_vanished_between_a_request_and_its_answer_is_found_again(
    broker: TestBroker,
) -> Outcome {
    let relay = Relay::to(&broker).await?;
    let builder = Client::builder().address(&relay.url).silence(Duration::from_millis(300));
    let client = builder.connect().await?;
    broker.delay_next(Api::ListGroups, Duration::from_secs(3_600));
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.admin().list_groups().await }
    });
    while broker.request_count(Api::ListGroups) < 1 {
        tokio::task::yield_now().await;
    }
    // With this answer the request is acknowledged, so that QUIC has nothing to send again.
    client.admin().list_topics().await?;
    relay.cut(true);
    broker.crash().await?;
    relay.cut(false);
    // By itself the connection would be tried after ten seconds.
    let groups = tokio::time::timeout(Duration::from_secs(5), asking).await???;
    assert!(groups.is_empty());
    Ok(())
}

#[bateau_testing::test]
async fn a_client_of_another_version_is_told_so(broker: TestBroker) -> Outcome {
    let url = broker.native_url().ok_or("the door is on")?;
    let newer = Client::builder().address(&url).versions(1..=9).connect().await?;
    assert_eq!(newer.broker().protocol_version, 1);
    let error = Client::builder().address(&url).versions(7..=9).connect().await;
    let error = error.expect_err("no version in common");
    assert!(matches!(error, ConnectError::Greeting { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Refused);
    Ok(())
}

#[bateau_testing::test]
async fn a_wrong_pin_and_a_silent_port_are_named(broker: TestBroker) -> Outcome {
    let url = broker.native_url().ok_or("the door is on")?;
    let (place, _) = url.split_once('?').ok_or("a pin")?;
    let wrong = format!("{place}?pin=sha256:{}", "00".repeat(32));
    let error = Client::connect(&wrong).await.expect_err("not the key that was expected");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    let silent = UdpSocket::bind("127.0.0.1:0").await?;
    let nobody = format!("quic://{}?pin=sha256:{}", silent.local_addr()?, "00".repeat(32));
    let builder = Client::builder().address(nobody).connect_timeout(Duration::from_millis(300));
    let error = builder.connect().await.expect_err("nobody answers");
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    Ok(())
}

#[bateau_testing::test]
async fn requests_over_topics_get_their_replies(broker: TestBroker) -> Outcome {
    broker.seed_topic("prices", 2).await?;
    broker.seed_topic("prices.replies", 2).await?;
    let client = broker.client().await?;
    let requester = client.requester("prices", "prices.replies").await?;
    let service = client.clone();
    let serving = tokio::spawn(async move {
        let mut consumer = service.consumer("pricing").topics(["prices"]).start().await?;
        for _ in 0..3 {
            let Some(request) = consumer.try_next().await? else { break };
            let value = request.value.clone().unwrap_or_default();
            service.reply(&request, Record::new([&value[..], b" costs 7"].concat())).await?;
            request.ack().await?;
        }
        Ok::<_, bateau_client::Error>(())
    });
    for thing in ["a boat", "an oar", "a sail"] {
        let reply = requester.request(thing, Duration::from_secs(20)).await?;
        let expected = format!("{thing} costs 7");
        assert_eq!(reply.value.as_deref(), Some(expected.as_bytes()));
    }
    serving.await??;
    let error = requester.request("nobody", Duration::from_millis(200)).await;
    let error = error.expect_err("nobody serves any more");
    assert!(error.possibly_written() && error.kind() == ErrorKind::TimedOut, "{error}");
    Ok(())
}

#[test]
fn the_client_works_without_async() -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let broker = runtime.block_on(TestBroker::start())?;
    let client = bateau_client::blocking::Client::connect(&broker.native_url().ok_or("on")?)?;
    let ack = client.run(client.inner().producer("orders").send("order 7"))?;
    assert_eq!(ack.offset, 0);
    let mut consumer = client.start(client.inner().reader().topics(["orders"]))?;
    let delivery = consumer.next().ok_or("it ended")??;
    assert_eq!(delivery.value.as_deref(), Some(&b"order 7"[..]));
    consumer.close()?;
    client.close()?;
    Ok(())
}
