"""The private weights of a finished run as files for other programs."""
