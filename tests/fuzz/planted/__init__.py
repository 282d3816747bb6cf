"""Targets with a fault that must be found: tests of the fuzzer."""
