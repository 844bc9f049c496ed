//! In: how long a connection may wait. Out: a wake-up, by one timer that is seldom set.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Longer than any wait that matters; the timer's own range has an end.
const FAR: Duration = Duration::from_secs(86_400);

/// The timer of a connection. It is left where it is when the deadline moves away, as it does with every request: it then comes early, once,
/// and is set again. That costs less than taking it out of the runtime's wheel and putting it in each time. Nor is it asked whether it has come as long as
/// it cannot have: it knows whom to wake.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    /// Who was told to it last.
    waker: Option<Waker>,
}

impl Alarm {
    /// Ready once so much time has gone by since `now`, a time that was read since the caller was woken; `None`: never.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, now: Instant, wait: Option<Duration>) -> Poll<()> {
        let Some(wait) = wait else { return Poll::Pending };
        if wait.is_zero() {
            return Poll::Ready(());
        }
        let at = now + wait.min(FAR);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if sleep.deadline() > at {
            sleep.as_mut().reset(at);
        } else if now < sleep.deadline() && self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.waker = Some(cx.waker().clone());
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
                    assert!(alarm.poll(cx, Instant::now(), Some(deadline - Instant::now())).is_pending());
                }
            }
            alarm.poll(cx, Instant::now(), Some(deadline - Instant::now()))
        })
        .await;
        assert_eq!(begun.elapsed().as_millis(), 1_999);
        assert_eq!(polls, 3, "it came early once, and was set again");
        let begun = Instant::now();
        poll_fn(|cx| {
            assert!(alarm.poll(cx, Instant::now(), None).is_pending());
            Poll::Ready(())
        })
        .await;
        let near = begun + Duration::from_millis(5);
        poll_fn(|cx| alarm.poll(cx, Instant::now(), Some(near - Instant::now()))).await;
        assert_eq!(begun.elapsed().as_millis(), 5);
    }
}
