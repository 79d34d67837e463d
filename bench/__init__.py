"""Measurements. `python -m bench` runs them all, `python -m bench render` one; figures are medians of several runs."""
