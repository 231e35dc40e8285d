//! Calls of every kind that are under way, and how they end.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::client::{Client, next};
use crate::echo::{Echo, Note};
use crate::server::{soon, until};

/// One call of each kind, all under way.
pub struct UnderWay {
    watch: Streaming<Note>,
    chat: Streaming<Note>,
    say_more: mpsc::Sender<Note>,
    collect: JoinHandle<Result<Note, Status>>,
    _collected: mpsc::Sender<Note>,
    unary: JoinHandle<Result<Note, Status>>,
}

impl UnderWay {
    pub async fn begin(echo: &Echo, client: Client) -> Self {
        let mut watch = client.watch(Note::text("tick")).await.unwrap();
        assert_eq!(next(&mut watch).await.unwrap(), Some(Note::text("tick")));
        let (say_more, notes) = mpsc::channel(4);
        let mut chat = client.chat(ReceiverStream::new(notes)).await.unwrap();
        say_more.send(Note::text("one")).await.unwrap();
        assert_eq!(next(&mut chat).await.unwrap(), Some(Note::text("one")));
        let (_collected, notes) = mpsc::channel(4);
        _collected.send(Note::of_size(10)).await.unwrap();
        echo.calls();
        let (collecting, saying) = (client.clone(), client);
        let this = Self {
            watch,
            chat,
            say_more,
            collect: tokio::spawn(
                async move { collecting.collect(ReceiverStream::new(notes)).await },
            ),
            _collected,
            unary: tokio::spawn(async move { saying.say("wait").await }),
        };
        until("both calls have begun", || echo.count() == 2).await;
        this
    }

    pub async fn assert_ended(mut self, what: &str) {
        let watch = next(&mut self.watch).await.map(drop);
        let chat = next(&mut self.chat).await.map(drop);
        let collect = soon(what, self.collect).await.unwrap().map(drop);
        let unary = soon(what, self.unary).await.unwrap().map(drop);
        for (kind, end) in [
            ("server-streaming", watch),
            ("bidirectional", chat),
            ("client-streaming", collect),
            ("unary", unary),
        ] {
            let status = end.expect_err(&format!("{what}: {kind} has an end"));
            assert_eq!(status.code(), Code::Unauthenticated, "{what}: {kind}: {status:?}");
            assert_eq!(status.message(), "the session ended", "{what}: {kind}");
        }
    }

    pub async fn assert_alive(mut self, echo: &Echo, subject: &str, what: &str) {
        self.say_more.send(Note::text("two")).await.unwrap();
        let note = next(&mut self.chat).await;
        assert_eq!(note.unwrap(), Some(Note::text("two")), "{what}");
        echo.let_one_go();
        let note = soon(what, self.unary).await.unwrap().unwrap();
        assert_eq!(note.text, format!("{subject}: wait"), "{what}");
        drop(self._collected);
        let note = soon(what, self.collect).await.unwrap().unwrap();
        assert_eq!(note.text, "1", "{what}");
    }
}
