"""`longtake generate`: makes a video, or continues an interrupted one."""
