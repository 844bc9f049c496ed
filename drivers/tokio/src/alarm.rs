//! In: how long a connection may wait. Out: a wake-up, by one timer that is seldom set.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Longer than any wait that matters; the timer's own range has an end.
const FAR: Duration = Duration::from_secs(86_400);

/// The timer of a connection. It is left where it is when the deadline moves away, as it does with every request: it then comes early, once,
/// and is set again. That costs less than taking it out of the runtime's wheel and putting it in each time.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready once so much time has gone by; `None`: never.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, wait: Option<Duration>) -> Poll<()> {
        let Some(wait) = wait else { return Poll::Pending };
        if wait.is_zero() {
            return Poll::Ready(());
        }
        let at = Instant::now() + wait.min(FAR);
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if sleep.deadline() > at {
            sleep.as_mut().reset(at);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moves_away_is_kept_and_one_that_comes_near_is_too() {
        let (mut alarm, begun) = (Alarm::default(), Instant::now());
        let mut deadline = begun + Duration::from_secs(1);
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            if polls == 1 {
                // Asked again and again, as by a busy connection.
                for n in 0..1_000 {
                    deadline = begun + Duration::from_millis(1_000 + n);
                    assert!(alarm.poll(cx, Some(deadline - Instant::now())).is_pending());
                }
            }
            alarm.poll(cx, Some(deadline.duration_since(Instant::now())))
        })
        .await;
        assert_eq!(begun.elapsed().as_millis(), 1_999);
        assert_eq!(polls, 3, "it came early once, and was set again");
        let begun = Instant::now();
        poll_fn(|cx| {
            assert!(alarm.poll(cx, None).is_pending());
            Poll::Ready(())
        })
        .await;
        let near = begun + Duration::from_millis(5);
        poll_fn(|cx| alarm.poll(cx, Some(near.duration_since(Instant::now())))).await;
        assert_eq!(begun.elapsed().as_millis(), 5);
    }
}
