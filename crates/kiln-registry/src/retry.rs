//! Trying again: which failures, how often, after how long; and being told to stop.
//!
//! Waits grow exponentially and are drawn at random from their upper half, so that many clients
//! do not come back at once. A registry's `Retry-After` (RFC 9110, 10.2.3) goes before.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::config::Retries;
use crate::error::Error;

/// A failed attempt.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The error, if it is the last attempt.
    pub(crate) error: Error,
    /// Whether another attempt may help.
    pub(crate) again: Again,
}

/// Whether another attempt may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// It will not.
    Never,
    /// It may, but not many times: nothing answers there.
    Soon,
    /// It may.
    Later,
    /// It may, after this time.
    After(Duration),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let again = Again::Never;
        Self { error, again }
    }
}

/// Where nothing listens or no such name exists, further attempts seldom help.
const ATTEMPTS_AT_NOTHING: u32 = 3;

/// Counts the attempts at one thing.
#[derive(Debug)]
pub(crate) struct Attempts {
    retries: Retries,
    failed: u32,
}

impl Attempts {
    /// None made yet.
    pub(crate) fn new(retries: Retries) -> Self {
        Self { retries, failed: 0 }
    }

    /// Counts anew, because something was achieved.
    pub(crate) fn restart(&mut self) {
        self.failed = 0;
    }

    /// How long to wait before the next attempt; the error when there is to be none.
    pub(crate) fn next(&mut self, failure: Failure) -> Result<Duration, Error> {
        self.failed += 1;
        let allowed = match failure.again {
            Again::Never => 1,
            Again::Soon => self.retries.attempts.min(ATTEMPTS_AT_NOTHING),
            Again::Later | Again::After(_) => self.retries.attempts,
        };
        if self.failed >= allowed {
            return Err(failure.error);
        }
        match failure.again {
            Again::After(wait) if wait > self.retries.longest_wait => Err(failure.error),
            Again::After(wait) => Ok(wait.max(self.backoff() / 8)),
            _ => Ok(self.backoff()),
        }
    }

    fn backoff(&self) -> Duration {
        let doubled = 1_u32 << (self.failed - 1).min(16);
        let longest =
            self.retries.first_wait.saturating_mul(doubled).min(self.retries.longest_wait);
        let draw = (RandomState::new().hash_one(self.failed) % 1024) as u32;
        let half = longest / 2;
        half + half / 1024 * draw
    }
}

/// Whether a client was told to stop; waits end at once when it is.
#[derive(Debug, Default)]
pub(crate) struct Cancellation {
    cancelled: Mutex<bool>,
    told: Condvar,
}

impl Cancellation {
    /// Tells everybody to stop.
    pub(crate) fn cancel(&self) {
        *self.cancelled.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.told.notify_all();
    }

    /// An error if told to stop.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.wait(Duration::ZERO)
    }

    /// Waits; an error if told to stop before or meanwhile.
    pub(crate) fn wait(&self, time: Duration) -> Result<(), Error> {
        let end = Instant::now() + time;
        let mut cancelled = self.cancelled.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if *cancelled {
                return Err(Error::Cancelled);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            cancelled =
                self.told.wait_timeout(cancelled, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Reads a `Retry-After`: seconds, or a date.
pub(crate) fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    let date = SystemTime::from(date);
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(again: Again) -> Failure {
        Failure { error: Error::Cancelled, again }
    }

    #[test]
    fn attempts_are_bounded_and_waits_grow() {
        let retries = Retries {
            attempts: 5,
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_millis(300),
        };
        let mut attempts = Attempts::new(retries);
        for bounds in [50..=100, 100..=200, 150..=300, 150..=300] {
            let wait = attempts.next(failure(Again::Later)).unwrap().as_millis();
            assert!(bounds.contains(&wait), "{wait} not in {bounds:?}");
        }
        assert!(attempts.next(failure(Again::Later)).is_err());
        attempts.restart();
        assert!(attempts.next(failure(Again::Later)).is_ok());
        assert!(attempts.next(failure(Again::Never)).is_err());
    }

    #[test]
    fn a_registry_says_how_long_to_wait() {
        let retries = Retries { longest_wait: Duration::from_mins(1), ..Retries::default() };
        let mut attempts = Attempts::new(retries);
        let wait = attempts.next(failure(Again::After(Duration::from_secs(7))));
        assert_eq!(wait.unwrap(), Duration::from_secs(7));
        assert!(attempts.next(failure(Again::After(Duration::from_secs(61)))).is_err());
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        let parse = |text| parse_retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!(parse("120"), Some(120));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT"), Some(30));
        assert_eq!(parse("Tue, 06 Nov 1990 08:49:37 GMT"), Some(0));
        assert_eq!(parse("soon"), None);
        assert_eq!(parse("-1"), None);
    }

    #[test]
    fn cancelling_ends_a_wait() {
        let cancellation = Cancellation::default();
        assert!(cancellation.check().is_ok());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| cancellation.wait(Duration::from_hours(1)));
            cancellation.cancel();
            assert!(matches!(waiting.join().unwrap(), Err(Error::Cancelled)));
        });
        assert!(cancellation.check().is_err());
    }
}
