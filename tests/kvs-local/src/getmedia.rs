//! GetMedia: where to start, and what to send when.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::body::{After, Body};
use crate::clock::Clock;
use crate::document;
use crate::error::ApiError;
use crate::fault::Actions;
use crate::log::Entry;
use crate::service::{Config, Shared};
use crate::store::{
    Cursor, Fragment, Idle, NoStart, OnExpired, Progress, StartSelector, Stream, Visible,
};
use crate::validate::{is_fragment_number, is_token, string, unfit, wrong_type};

/// At most so many fragments a second, where that limit is enforced.
const FRAGMENTS_PER_SECOND: u32 = 5;
/// The longest distance between two fragments that pacing waits for.
const LONGEST_PAUSE_MS: u64 = 20_000;

/// Reads the start selector of a request.
///
/// # Errors
/// InvalidArgumentException for a type that doesn't exist, a field its type needs and that is
/// missing or malformed, and a field of another type.
pub(crate) fn parse_selector(json: &Value) -> Result<StartSelector, ApiError> {
    let null = |member: &str| unfit(member, "null", "Member must not be null");
    let selector = match json.get("StartSelector") {
        None | Some(Value::Null) => return Err(null("StartSelector")),
        Some(selector @ Value::Object(_)) => selector,
        Some(_) => return Err(wrong_type("StartSelector")),
    };
    let kind = string(selector, "StartSelectorType")?
        .ok_or_else(|| null("startSelector.startSelectorType"))?;
    let number = string(selector, "AfterFragmentNumber")?;
    let token = string(selector, "ContinuationToken")?;
    let timestamp = match selector.get("StartTimestamp") {
        None | Some(Value::Null) => None,
        Some(Value::Number(seconds)) => Some(seconds.as_f64().unwrap_or(-1.0)),
        Some(_) => return Err(wrong_type("StartTimestamp")),
    };
    let (mut needs_number, mut needs_time, mut needs_token) = (false, false, false);
    match kind {
        "NOW" | "EARLIEST" => {}
        "FRAGMENT_NUMBER" => needs_number = true,
        "PRODUCER_TIMESTAMP" | "SERVER_TIMESTAMP" => needs_time = true,
        "CONTINUATION_TOKEN" => needs_token = true,
        _ => {
            return Err(unfit(
                "startSelector.startSelectorType",
                kind,
                "Member must satisfy enum value set: [FRAGMENT_NUMBER, SERVER_TIMESTAMP, \
                 PRODUCER_TIMESTAMP, NOW, EARLIEST, CONTINUATION_TOKEN]",
            ));
        }
    }
    for (name, given, needed) in [
        ("AfterFragmentNumber", number.is_some(), needs_number),
        ("StartTimestamp", timestamp.is_some(), needs_time),
        ("ContinuationToken", token.is_some(), needs_token),
    ] {
        if given != needed {
            let must = if needed { "must" } else { "must not" };
            return Err(ApiError::invalid_argument(format!(
                "{name} {must} be given with StartSelectorType {kind}."
            )));
        }
    }
    if let Some(number) = number.filter(|number| !is_fragment_number(number)) {
        let at = "startSelector.afterFragmentNumber";
        return Err(unfit(at, number, "1 to 128 characters of ^[0-9]+$"));
    }
    if let Some(token) = token.filter(|token| !is_token(token)) {
        let at = "startSelector.continuationToken";
        return Err(unfit(
            at,
            token,
            "1 to 128 characters of ^[a-zA-Z0-9_\\.\\-]+$",
        ));
    }
    if timestamp.is_some_and(|seconds| !(0.0..1e11).contains(&seconds)) {
        return Err(ApiError::invalid_argument(
            "StartTimestamp is not a valid time.",
        ));
    }
    let ms = timestamp.map_or(0, |seconds| (seconds * 1000.0).round() as u64);
    Ok(match kind {
        "NOW" => StartSelector::Now,
        "EARLIEST" => StartSelector::Earliest,
        "FRAGMENT_NUMBER" => StartSelector::FragmentNumber(number.unwrap_or_default().to_owned()),
        "PRODUCER_TIMESTAMP" => StartSelector::ProducerTimestamp(ms),
        "SERVER_TIMESTAMP" => StartSelector::ServerTimestamp(ms),
        _ => StartSelector::ContinuationToken(token.unwrap_or_default().to_owned()),
    })
}

/// What a valid GetMedia request leads to.
pub(crate) enum Start {
    At(Cursor),
    /// A body that ends at once.
    Nothing,
    /// In-band error 4000, which names this fragment.
    NotFound(String),
}

/// Finds the start of a request.
///
/// # Errors
/// Where the configured answer to a start that isn't there is an HTTP error.
pub(crate) fn find_start(
    stream: &Stream,
    selector: &StartSelector,
    config: &Config,
) -> Result<Start, ApiError> {
    let mut state = stream.state.lock().unwrap();
    state.expire(std::time::Instant::now());
    match state.start(selector, config.visible(), config.undocumented) {
        Ok(cursor) => Ok(Start::At(cursor)),
        Err(NoStart::Empty) => Ok(Start::Nothing),
        Err(NoStart::Gap) => Err(ApiError::not_found(
            "No fragment holds the requested timestamp.",
        )),
        Err(NoStart::Gone(_)) if config.undocumented.expired == OnExpired::InvalidArgument => Err(
            ApiError::invalid_argument("The requested fragment is not found."),
        ),
        Err(NoStart::Gone(given)) => Ok(Start::NotFound(given)),
    }
}

/// A response under way.
struct Delivery<'a> {
    shared: &'a Shared,
    stream: &'a Stream,
    actions: &'a Actions,
    clock: Clock,
    body: Body<'a>,
    /// Documents sent, duplicates not counted.
    sent: usize,
    held: Option<Arc<Fragment>>,
    paced: Option<(Instant, u64)>,
    last_sent: Option<Instant>,
}

/// Sends the body. The response's head must have been sent.
pub(crate) async fn deliver(
    connection: &mut crate::http::Connection,
    shared: &Shared,
    stream: &Stream,
    start: Start,
    actions: &Actions,
    clock: Clock,
    entry: &Entry,
) -> After {
    let _finish = entry.finish_on_drop();
    let body = match Body::start(connection, actions).await {
        Ok(body) => body,
        Err(after) => return after,
    };
    let mut delivery = Delivery {
        shared,
        stream,
        actions,
        clock,
        body,
        sent: 0,
        held: None,
        paced: None,
        last_sent: None,
    };
    match delivery.run(start).await {
        Ok(()) => delivery.body.end().await,
        Err(after) => after,
    }
}

impl Delivery<'_> {
    async fn run(&mut self, start: Start) -> Result<(), After> {
        if let Some((data, then)) = &self.actions.replace {
            self.body.replace(data, *then).await?;
        }
        if let Some(prefix) = &self.actions.prefix {
            self.body.write(prefix).await?;
        }
        let mut cursor = match start {
            Start::Nothing => return Ok(()),
            Start::NotFound(number) => {
                let number = if is_fragment_number(&number) {
                    number
                } else {
                    "0".to_owned()
                };
                return self.error(&number, 4000, document::error_text(4000)).await;
            }
            Start::At(cursor) => cursor,
        };
        let config = &self.shared.config;
        let opened = Instant::now();
        let rotate_at = config.rotate_after.map(|age| opened + age);
        let mut reached = 0;
        loop {
            if let Some((after, id, text)) = &self.actions.in_band_error
                && self.sent >= *after
            {
                let number = self.next_number(&cursor);
                return self.error(&number, *id, text).await;
            }
            let rotated = rotate_at.is_some_and(|at| at <= Instant::now())
                || config
                    .rotate_after_fragments
                    .is_some_and(|n| self.sent >= n);
            if rotated {
                return Ok(());
            }
            let Some(fragment) = self.next(&cursor, rotate_at).await? else {
                return Ok(());
            };
            cursor = Cursor::After(fragment.number.clone());
            reached += 1;
            if self.actions.skip.contains(&reached) {
                continue;
            }
            self.wait_for_pace(&fragment).await?;
            if self.actions.swap.contains(&reached) {
                self.held = Some(fragment);
                continue;
            }
            self.fragment(&fragment).await?;
            if self.actions.duplicate.contains(&reached) {
                self.send(&fragment).await?;
            }
            if let Some(held) = self.held.take() {
                self.fragment(&held).await?;
            }
        }
    }

    /// The fragment `cursor` leads to, as soon as there is one; `None`: the body shall end.
    async fn next(
        &mut self,
        cursor: &Cursor,
        rotate_at: Option<Instant>,
    ) -> Result<Option<Arc<Fragment>>, After> {
        let waiting_since = Instant::now();
        let visible = self.shared.config.visible();
        let mut changed = self.stream.watch();
        loop {
            let idle = {
                let mut state = self.stream.state.lock().unwrap();
                state.expire(std::time::Instant::now());
                if state.deleted {
                    return Ok(None);
                }
                if !state.paused
                    && let Some(fragment) = state.next(cursor, visible)
                {
                    return Ok(Some(fragment));
                }
                if state.finished {
                    return Ok(None);
                }
                state.idle
            };
            let idle_at = match idle {
                Idle::Silence => None,
                Idle::CleanEnd(after) => Some(waiting_since + after),
            };
            let deadline = [idle_at, rotate_at].into_iter().flatten().min();
            let change = async {
                match deadline {
                    Some(deadline) => tokio::time::timeout_at(deadline, changed.changed())
                        .await
                        .is_ok(),
                    None => changed.changed().await.is_ok(),
                }
            };
            if !self.body.wait_for(change).await? {
                return Ok(None);
            }
        }
    }

    fn next_number(&self, cursor: &Cursor) -> String {
        let state = self.stream.state.lock().unwrap();
        let next = state.next(cursor, self.shared.config.visible());
        match (next, cursor) {
            (Some(fragment), _) => fragment.number.to_string(),
            (None, Cursor::After(number) | Cursor::At(number)) => number.to_string(),
            (None, _) => "0".to_owned(),
        }
    }

    async fn error(&mut self, number: &str, id: u32, text: &str) -> Result<(), After> {
        let document = document::error_document(number, id, text);
        self.body.write(&document).await
    }

    async fn wait_for_pace(&mut self, fragment: &Fragment) -> Result<(), After> {
        if let Some(pace) = self.shared.config.pace {
            let now = Instant::now();
            let (due, last_ms) = self.paced.unwrap_or((now, fragment.producer_ms));
            let distance = fragment.producer_ms.saturating_sub(last_ms);
            let distance = Duration::from_millis(distance.min(LONGEST_PAUSE_MS));
            let due = due + distance.div_f64(pace);
            self.paced = Some((due, fragment.producer_ms));
            self.body.wait_until(due).await?;
        }
        if self.shared.config.enforce_rate
            && let Some(last) = self.last_sent
        {
            let due = last + Duration::from_secs(1) / FRAGMENTS_PER_SECOND;
            self.body.wait_until(due).await?;
        }
        self.last_sent = Some(Instant::now());
        Ok(())
    }

    async fn fragment(&mut self, fragment: &Fragment) -> Result<(), After> {
        if self.sent == 0 {
            self.inserted().await?;
        }
        self.send(fragment).await?;
        self.sent += 1;
        self.inserted().await
    }

    async fn inserted(&mut self) -> Result<(), After> {
        for (after, bytes) in &self.actions.insert {
            if *after == self.sent {
                self.body.write(bytes).await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self, fragment: &Fragment) -> Result<(), After> {
        let mut style = self.shared.config.style;
        let omit = self
            .actions
            .omit_trailing_tags_after
            .is_some_and(|after| self.sent >= after);
        if omit {
            style.trailing_tags = false;
        }
        if fragment.progress() != Progress::Open {
            let behind = self.millis_behind(fragment);
            let mut document = fragment.document(style, behind);
            if omit && let Some(at) = document::trailing_tags_at(&document) {
                document.truncate(at);
            }
            return self.body.write(&document).await;
        }
        // Under upload: what there is of it, then what comes.
        self.body.write(&fragment.live_head(style)).await?;
        let mut at = 0;
        loop {
            let mut changed = self.stream.watch();
            let (bytes, progress) = fragment.live_cluster(at);
            at += bytes.len();
            self.body.write(&bytes).await?;
            match progress {
                Progress::Open if bytes.is_empty() => {
                    let _ = self.body.wait_for(changed.changed()).await?;
                }
                Progress::Open => {}
                Progress::Broken => return Ok(()),
                Progress::Complete => {
                    let behind = self.millis_behind(fragment);
                    return self.body.write(&fragment.live_tail(style, behind)).await;
                }
            }
        }
    }

    fn millis_behind(&self, fragment: &Fragment) -> u64 {
        self.clock.now_ms().saturating_sub(fragment.server_ms)
    }
}

impl Config {
    /// Which fragments a GetMedia sees.
    pub(crate) fn visible(&self) -> Visible {
        if self.chunked_live {
            Visible::Uploading
        } else {
            Visible::Finished
        }
    }
}
