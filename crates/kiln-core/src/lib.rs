//! Text in, plan and image out: everything of kiln that has no effect.
