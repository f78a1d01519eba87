//! What `kiln bench` needs of the store and the engine.

use kiln_core::benchmark::Benchmark;
use kiln_core::report::Place;
use kiln_engine::{BuildRequest, Watch};
use kiln_store::ScratchDir;

use super::{Session, build_failure, store_failure};
use crate::failure::Failure;

impl Session {
    /// A directory of the store for work in progress.
    pub(crate) fn scratch_dir(&self) -> Result<ScratchDir, Failure> {
        self.store.scratch_dir().map_err(|error| store_failure(&error))
    }

    /// Brings the base images of a build, and builds nothing.
    pub(crate) fn fetch_bases(
        &self,
        request: &BuildRequest,
        watch: Watch<'_>,
    ) -> Result<(), Failure> {
        kiln_engine::fetch_bases(&self.engine, request, watch)
            .map_err(|error| build_failure(error, &request.dockerfile))
    }

    /// Keeps what was measured.
    pub(crate) fn record_benchmark(&self, benchmark: &Benchmark) -> Result<(), Failure> {
        self.store.benchmarks().record(benchmark).map_err(|error| store_failure(&error))
    }

    /// What was measured last, of one Dockerfile and context or of all.
    pub(crate) fn last_benchmarks(
        &self,
        place: Option<&Place>,
        count: usize,
    ) -> Result<Vec<Benchmark>, Failure> {
        self.store.benchmarks().last(place, count).map_err(|error| store_failure(&error))
    }
}
