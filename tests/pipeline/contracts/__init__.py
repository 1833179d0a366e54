"""Tests of `evidence contracts`."""
