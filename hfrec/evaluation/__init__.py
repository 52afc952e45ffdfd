"""Ranked lists become judgement: all candidates ranked, seen items hidden, ties against the target.

`accuracy` turns ranks into figures for each target, `beyond_accuracy` judges the lists as a whole, `slices`
says for whom and `bootstrap` how sure; `ranking` ranks a batch, and `evaluator` walks a model through all
targets, on one process or many.

Shapes: B targets of a batch, T targets, C candidates, K list length.
"""
