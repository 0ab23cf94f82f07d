"""Tools that make the training data of ocelli's bundled model: drawn scenes with true captions and answers.

The modules, in the order of the data: `nouns` (the words), `colours` (what a colour word means), `artwork` (drawings -> a cache
of sprites), `library` (that cache, opened), `scenes` (a scene in symbols), `backgrounds` and `drawing` (its pixels), `language`
(captions, questions and the parser that checks them), `tokenizer`, `evaluate`.
"""
