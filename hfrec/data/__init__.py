"""Raw tables become a catalogue, histories and batches.

`schema` names the columns, `read` opens any table, `interactions` and `catalog` check the two tables of a
recommender, `splits` cuts the log, `histories` holds it as ragged rows, `statistics` counts it, `augmentation` changes
it a little, `collator` makes batches of it, and `synthetic` is the shop that everything here can be tried on.
"""
