"""All layers tuned together: gradients as operators behind the graph, steps, losses."""
