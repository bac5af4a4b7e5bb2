//! What runs beside the requests: this process's signs of life, and the sweeps that any number of processes share.

use std::time::Duration;

use conferencing_store::page::{MAX_PAGE_SIZE, Order, PageRequest};
use conferencing_store::{Actor, Error, Heartbeat};

use crate::app::App;
use crate::auth::sessions;

/// How many rows one sweep takes.
const SWEEP: u16 = 100;
/// How long after a beat that failed the next one is tried.
const BEAT_AGAIN: Duration = Duration::from_secs(1);
/// How many deliveries one purge of the inbox takes.
const DELIVERIES: u16 = 1000;
/// How often what was measured is put into its buckets.
const MEASURES: Duration = Duration::from_secs(5);
/// Of the media server's webhooks: it repeats itself for minutes.
const KEEP_INBOX: Duration = Duration::from_hours(7 * 24);

impl App {
    /// Beats until the service stops; nothing else is waited for. After a beat that failed the next is due soon: two may fail before others take
    /// this process for dead.
    pub(crate) async fn keep_alive(self) {
        let period = self.config().node_silence() / 3;
        let mut pause = period;
        while self.pause(pause).await {
            pause = period;
            if let Err(error) = self.beat().await {
                tracing::warn!("no sign of life was given: {error}");
                pause = BEAT_AGAIN.min(period);
            }
        }
    }

    /// Closes the seats of processes that do not beat any more; until the service stops.
    pub(crate) async fn look_for_silent(self) {
        while self.pause(self.config().node_silence() / 3).await {
            if let Err(error) = self.sweep_silent().await {
                tracing::warn!("silent processes were not looked for: {error}");
            }
        }
    }

    /// Tidies up once a minute; until the service stops.
    pub(crate) async fn tidy_up(self) {
        while self.pause(Duration::from_mins(1)).await {
            if let Err(error) = self.tidy_up_once().await {
                tracing::warn!("not all was tidied up: {error}");
            }
        }
    }

    /// False when the service stops.
    async fn pause(&self, pause: Duration) -> bool {
        self.stopping()
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_some()
    }

    async fn beat(&self) -> Result<(), Error> {
        let acting = self.store().acting(&Actor::system("presence"));
        if let Heartbeat::Lost { since } = acting.nodes().beat(self.node()).await? {
            // We were silent for too long: our seats are closed, and their sockets hear of it. Whoever comes back is served anew.
            tracing::warn!(%since, "this process was taken for dead, and begins anew");
            self.begin_anew().await?;
        }
        Ok(())
    }

    async fn sweep_silent(&self) -> Result<(), Error> {
        let acting = self.store().acting(&Actor::system("presence"));
        let silence = self.config().node_silence();
        while acting.nodes().sweep_silent(silence, SWEEP).await?.remaining {}
        Ok(())
    }

    /// Puts what was measured into its buckets, whether anybody asks for the metrics or not; until the service stops.
    pub(crate) async fn keep_metrics_small(self) {
        while self.pause(MEASURES).await {
            self.metrics().run_upkeep();
        }
    }

    /// Gives up seats that nobody waits for, ends rooms that are empty for long, erases guests who were not seen, and forgets sessions and
    /// webhooks that are of no use: all of it, however much has come together, and each even if another fails.
    ///
    /// # Errors
    /// Of the store, the first; what was done stays.
    pub async fn tidy_up_once(&self) -> Result<(), Error> {
        let swept = [
            self.expect_forgotten().await,
            self.end_empty_rooms().await,
            self.erase_guests().await,
            self.purge_inbox().await,
        ];
        if let Err(error) = sessions::purge(&self.store().sql(), self.now()).await {
            tracing::warn!("sessions that ran out were not deleted: {error}");
        }
        swept.into_iter().collect()
    }

    /// Waits for sockets of seats on this node that this process knows nothing of: whose join was committed while its answer was lost.
    async fn expect_forgotten(&self) -> Result<(), Error> {
        let mut page = PageRequest::first(MAX_PAGE_SIZE, Order::OldestFirst)?;
        loop {
            let seats = self.store().nodes().seats(self.node(), &page).await?;
            for seat in seats.items {
                if !self.presence().knows(seat.id) {
                    self.expect_socket(seat.id);
                }
            }
            match seats.next {
                Some(next) => page = page.after(next),
                None => return Ok(()),
            }
        }
    }

    async fn end_empty_rooms(&self) -> Result<(), Error> {
        let acting = self.store().acting(&Actor::system("upkeep"));
        while acting.rooms().sweep_empty(SWEEP).await?.len() == usize::from(SWEEP) {}
        Ok(())
    }

    async fn erase_guests(&self) -> Result<(), Error> {
        let acting = self.store().acting(&Actor::system("upkeep"));
        let idle = self.config().guest_time();
        while acting.users().sweep_guests(idle, SWEEP).await?.len() == usize::from(SWEEP) {}
        Ok(())
    }

    async fn purge_inbox(&self) -> Result<(), Error> {
        let acting = self.store().acting(&Actor::system("upkeep"));
        while acting.inbox().purge(KEEP_INBOX, DELIVERIES).await? == u64::from(DELIVERIES) {}
        Ok(())
    }
}
