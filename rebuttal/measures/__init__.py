"""Measures: small functions from functions and inputs to named numbers."""
