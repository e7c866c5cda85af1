"""The processes of a job: how they are started, find each other, exchange tensors, and notice that one is gone."""
