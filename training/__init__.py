"""Training: `python -m training.run` and its companions; never imported by serving."""
