"""`longtake train`: the models that the package ships, and such of one's own, stage by stage."""
