//! The body of a GetMedia response, byte for byte as the faults want it.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::fault::{Actions, AfterBody, Stop};
use crate::http::{Connection, Cut};

/// HTTP chunks are this large unless a fault says otherwise.
const CHUNK: usize = 64 << 10;

/// What is done with the connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request is read.
    KeepAlive,
    /// FIN.
    Fin,
    /// RST.
    Reset,
}

/// Writes a chunked body; every method's error is what becomes of the connection.
pub(crate) struct Body<'a> {
    connection: &'a mut Connection,
    sent: u64,
    stop: Option<(u64, Stop)>,
    chunk: usize,
    drip: Option<(u64, Instant)>,
}

impl<'a> Body<'a> {
    /// The response's head must have been sent.
    pub(crate) async fn start(
        connection: &'a mut Connection,
        actions: &Actions,
    ) -> Result<Body<'a>, After> {
        let mut body = Body {
            connection,
            sent: 0,
            stop: actions.stop,
            chunk: actions.chunk_size.unwrap_or(CHUNK),
            drip: actions.drip.map(|rate| (rate, Instant::now())),
        };
        body.check_stop().await?;
        Ok(body)
    }

    pub(crate) async fn write(&mut self, mut data: &[u8]) -> Result<(), After> {
        while !data.is_empty() {
            let mut take = data.len().min(self.chunk);
            if let Some((rate, _)) = self.drip {
                // A tenth of a second's worth at a time, so that it is a drip and no gush.
                take = take.min((rate / 10).max(1) as usize);
            }
            if let Some((limit, _)) = self.stop {
                take = take.min((limit - self.sent).try_into().unwrap_or(usize::MAX));
            }
            let (piece, rest) = data.split_at(take);
            if let Some((_, due)) = self.drip {
                self.wait_until(due).await?;
            }
            if self.connection.chunk(piece).await.is_err() {
                return Err(After::Fin);
            }
            self.sent += take as u64;
            data = rest;
            if let Some((rate, due)) = &mut self.drip {
                *due += Duration::from_secs_f64(take as f64 / *rate as f64);
            }
            self.check_stop().await?;
        }
        Ok(())
    }

    async fn check_stop(&mut self) -> Result<(), After> {
        match self.stop {
            Some((limit, stop)) if self.sent >= limit => match stop {
                Stop::Cut(Cut::Fin) => Err(After::Fin),
                Stop::Cut(Cut::Reset) => Err(After::Reset),
                Stop::Cut(Cut::CleanEnd) => Err(self.end().await),
                Stop::Stall => Err(self.silence().await),
            },
            _ => Ok(()),
        }
    }

    /// Ends the body as it should be.
    pub(crate) async fn end(&mut self) -> After {
        match self.connection.end_chunked().await {
            Ok(()) => After::KeepAlive,
            Err(_) => After::Fin,
        }
    }

    /// Sends nothing more; returns when the client has gone.
    pub(crate) async fn silence(&mut self) -> After {
        self.connection.closed().await;
        After::Fin
    }

    /// Waits for `event`, and for the client to go.
    pub(crate) async fn wait_for<T>(&mut self, event: impl Future<Output = T>) -> Result<T, After> {
        tokio::select! {
            result = event => Ok(result),
            _ = self.connection.closed() => Err(After::Fin),
        }
    }

    pub(crate) async fn wait_until(&mut self, when: Instant) -> Result<(), After> {
        if when <= Instant::now() {
            return Ok(());
        }
        self.wait_for(sleep_until(when)).await
    }

    /// Sends a replaced body.
    pub(crate) async fn replace(&mut self, data: &[u8], then: AfterBody) -> Result<(), After> {
        self.write(data).await?;
        Err(match then {
            AfterBody::CleanEnd => self.end().await,
            AfterBody::Silence => self.silence().await,
            AfterBody::Fin => After::Fin,
            AfterBody::Reset => After::Reset,
        })
    }
}
