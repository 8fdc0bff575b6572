"""trustml: private, federated and fair machine learning on one JAX core."""

__version__ = "0.1.0"
