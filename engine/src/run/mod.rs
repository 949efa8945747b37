//! The calls by which an application runs a worker: registering sagas, running a worker until it is told to stop, running one in quarantine.
//!
//! It starts every loop of [`crate::worker`] and [`crate::upkeep`], and may use all rooms but [`crate::testing`].

#[cfg(feature = "testing")]
pub(crate) mod explored;
pub mod quarantine;
pub(crate) mod registry;
pub(crate) mod work;
