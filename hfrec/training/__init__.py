"""Data and a model become a fitted model: the trainer, its arguments, a whole run, and a picture encoder of one's own."""
