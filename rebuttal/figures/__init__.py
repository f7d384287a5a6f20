"""Figures of one run. Functions from plain numbers to a matplotlib `Figure`; none reads files or trains."""
