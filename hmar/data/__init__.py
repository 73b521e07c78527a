"""Snapshot to tensors."""
