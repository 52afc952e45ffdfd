"""A history becomes a score for every item; and the folder in which a recommender is saved.

Letters for shapes, here and everywhere: B batch, L history length, N items, D model width, F item-feature width, K list
length, P positions that have a label, C candidates.
"""
