"""How fast a training on all cores is beside busy programs, by how long its threads spin while they wait for each other."""
