"""Does the evidence name what holds a pipeline back? Trainings with a planted bottleneck, as the analyst sees them."""
