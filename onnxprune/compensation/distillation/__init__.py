"""All layers tuned together to the values of the original: gradients, losses, schedule."""
