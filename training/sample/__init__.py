"""The sample set: a support desk's messages in ten intents (README.md)."""
