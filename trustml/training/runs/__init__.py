"""What a run leaves on disk: ledger, checkpoints, secrets, metrics; and how it goes on."""
