"""Lower bounds on epsilon, each with the confidence that it states."""
