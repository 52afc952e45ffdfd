"""An item's text, picture and sound become vectors, words, and an index over them.

`pictures` opens what a catalogue calls a picture, `sources` finds an encoder's files, `towers` runs it,
`cache` keeps what was encoded, `encoding` takes a column through them, `encoder` is their face, `table`
holds the vectors of a catalogue, `augmentation` those of changed texts and pictures, and `lexical` reads the
same items as words.

Shapes: N items, F width of an item's vector in one modality, B batch, A items added.
"""
