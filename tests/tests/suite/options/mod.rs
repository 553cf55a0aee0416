//! The plugin's options, and the options and QEMUs that it refuses.

mod config;
mod files;
mod loading;
