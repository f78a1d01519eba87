//! Budgets: what builds may take, and what a report says of that.

use std::time::Duration;

use serde::Serialize;

use super::{BuildLine, JUDGED, Kind, Performance, Rate, SERIES};

/// What builds may take; what is `None` is not judged.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Budget {
    /// A clean build.
    pub clean: Option<Duration>,
    /// A cached build.
    pub cached: Option<Duration>,
    /// Steps that the cache has, in hundredths.
    pub hit_rate: Option<f64>,
    /// Bytes of the files of an image.
    pub image_bytes: Option<u64>,
    /// Layers of an image.
    pub layers: Option<usize>,
}

impl Budget {
    /// The team's own, when nothing is said: clean in 3 minutes, cached in a second, 95 % of steps cached.
    pub const USUAL: Self = Self {
        clean: Some(Duration::from_mins(3)),
        cached: Some(Duration::from_secs(1)),
        hit_rate: Some(95.0),
        image_bytes: None,
        layers: None,
    };
}

/// What a budget says of a number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// The key of the budget.
    pub key: &'static str,
    /// What was found; `None` if there is nothing to judge yet.
    pub found: Option<f64>,
    /// What is allowed, in the same unit: milliseconds, hundredths, bytes, layers.
    pub limit: f64,
    /// Of how many builds.
    pub builds: usize,
}

impl Judgement {
    /// Whether it is kept; what is not known yet is.
    pub fn is_kept(&self) -> bool {
        match self.found {
            None => true,
            Some(found) if self.key == "hit-rate" => found >= self.limit,
            Some(found) => found <= self.limit,
        }
    }
}

/// Holds builds against a budget: the medians of the last [`JUDGED`] clean and cached builds, the hit rate of
/// all builds that were not clean (a step counts for each image that asked for it), and the last images.
#[expect(clippy::cast_precision_loss, reason = "sizes are compared, not counted")]
pub fn judge(performance: &Performance, budget: &Budget) -> Vec<Judgement> {
    let mut judgements = Vec::new();
    for (key, kind, limit) in
        [("clean", Kind::Clean, budget.clean), ("cached", Kind::Cached, budget.cached)]
    {
        let Some(limit) = limit else { continue };
        let of_kind = performance.kinds.iter().find(|summary| summary.kind == kind);
        let builds = of_kind.map_or(0, |summary| summary.durations_ms.len());
        let is_judged = kind == Kind::Clean || builds >= SERIES;
        judgements.push(Judgement {
            key,
            found: of_kind.filter(|_| is_judged).map(|summary| summary.median_ms as f64),
            limit: limit.as_secs_f64() * 1000.0,
            builds: builds.min(JUDGED),
        });
    }
    if let Some(limit) = budget.hit_rate {
        // A clean build is meant to have no hits.
        let judged: Vec<&BuildLine> = performance
            .builds
            .iter()
            .filter(|line| matches!(line.kind, Kind::Edit | Kind::Cached))
            .collect();
        let mut rate = Rate::default();
        for line in &judged {
            rate.steps += line.asked.steps;
            rate.cached += line.asked.cached;
        }
        let found = (rate.steps > 0 && judged.len() >= SERIES).then(|| rate.percent());
        judgements.push(Judgement { key: "hit-rate", found, limit, builds: judged.len() });
    }
    let images = &performance.images;
    let of_images = [
        (
            "image-size",
            budget.image_bytes.map(|limit| limit as f64),
            images.iter().map(|image| image.size_bytes as f64).reduce(f64::max),
        ),
        (
            "layers",
            budget.layers.map(|limit| limit as f64),
            images.iter().map(|image| image.layers as f64).reduce(f64::max),
        ),
    ];
    for (key, limit, found) in of_images {
        if let Some(limit) = limit {
            judgements.push(Judgement { key, found, limit, builds: usize::from(found.is_some()) });
        }
    }
    judgements
}
