"""Fine-tune a model on labels and on a teacher: losses, epochs, steps, checkpoints."""
