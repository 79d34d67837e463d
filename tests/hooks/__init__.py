"""Tests of `hooks/`, the distribution `taskqueue-hooks`."""
