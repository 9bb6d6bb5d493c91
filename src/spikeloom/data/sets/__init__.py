"""The data sets, one module each; `spikeloom.data.registry` finds those with a `DATA_SETS`."""
