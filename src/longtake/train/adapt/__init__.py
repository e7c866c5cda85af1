"""A LoRA for a video model that is there: its guidance in one branch, or noise levels mixed per frame."""
