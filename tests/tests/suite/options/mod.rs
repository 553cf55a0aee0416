//! The options of the plugin, and what it refuses.

mod files;
mod loading;
