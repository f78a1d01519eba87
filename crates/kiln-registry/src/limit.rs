//! How many blobs are downloaded from one registry, or uploaded to it, at a time.
//!
//! More connections than a few get nothing faster, and registries hold them against the user.
//! The limit is the client's, so that it goes for all images, stages and platforms together.
//! Both directions count for themselves: an upload may wait for a download that feeds it, and
//! no download waits for an upload.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::error::Error;
use crate::retry::Cancellation;

/// Transfers in one direction at a time, of one registry; BuildKit's number.
pub(crate) const TRANSFERS: usize = 4;

/// How often a waiting thread looks whether it shall stop.
const CANCEL_POLL: Duration = Duration::from_millis(30);

/// Transfers in one direction that are under way, by registry.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    under_way: Mutex<HashMap<String, usize>>,
    ended: Condvar,
}

/// The right to transfer a blob, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    transfers: Arc<Transfers>,
    registry: String,
}

impl Transfers {
    /// Waits for a permit.
    pub(crate) fn permit(
        self: &Arc<Self>,
        registry: &str,
        cancellation: &Cancellation,
    ) -> Result<Permit, Error> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            cancellation.check()?;
            let count = under_way.entry(registry.to_owned()).or_default();
            if *count < TRANSFERS {
                *count += 1;
                return Ok(Permit { transfers: Arc::clone(self), registry: registry.to_owned() });
            }
            under_way = self
                .ended
                .wait_timeout(under_way, CANCEL_POLL)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut under_way = self.transfers.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = under_way.get_mut(&self.registry) {
            *count -= 1;
        }
        drop(under_way);
        self.transfers.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_gives_so_many_and_no_more() {
        let transfers = Arc::new(Transfers::default());
        let cancellation = Cancellation::default();
        let permit = |registry: &str| transfers.permit(registry, &cancellation);
        let mut held: Vec<Permit> = (0..TRANSFERS).map(|_| permit("a").unwrap()).collect();
        // Another registry has its own.
        held.push(permit("b").unwrap());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| permit("a").map(drop));
            held.remove(0);
            waiting.join().unwrap().unwrap();
        });
        held.push(permit("a").unwrap());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| permit("a").map(drop));
            cancellation.cancel();
            assert!(matches!(waiting.join().unwrap(), Err(Error::Cancelled)));
        });
    }
}
