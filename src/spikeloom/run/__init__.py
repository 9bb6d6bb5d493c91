"""A run on the disk and around it: folder, checkpoints, records, device, failures."""
