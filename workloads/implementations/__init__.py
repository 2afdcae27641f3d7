"""Implementations beyond each workload's own, one file each, registered by workload, runtime and name."""
