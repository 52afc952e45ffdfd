"""Data and a model become a fitted model: trainer, arguments, a whole run, and a picture encoder of one's own."""
