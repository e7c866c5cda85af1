"""`longtake plan`: what a video takes, before it is made."""
