"""Event recordings: arrays of events, their formats, frames of counts, and the prepared cache."""
