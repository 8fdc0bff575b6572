"""Audits of membership scores that any program wrote."""
