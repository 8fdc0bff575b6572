"""Files of a run (ledger, checkpoints, secrets, metrics) and how a run continues."""
