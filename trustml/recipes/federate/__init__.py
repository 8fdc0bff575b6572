"""Training across clients: data, partition, algorithm, plan, evaluation and report joined."""
