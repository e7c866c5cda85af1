"""Reading prompt timelines in the spellings that people use."""
