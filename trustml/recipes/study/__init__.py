"""Theory against practice: a grid of private trainings, each attacked and audited."""
