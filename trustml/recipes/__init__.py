"""What each command does, as a library: data, model, plan, training, audit and report joined."""
