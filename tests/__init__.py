"""Tests of the exporter; the tree mirrors `exporter/`."""
