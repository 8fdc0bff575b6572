"""Private training beside its baseline, from settings to the trust report."""
